"""Runs steps on the device: one program per job, back to back, or one for all jobs of a step."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding

from muxjax.models.load import LoadedModel
from muxjax.serving.completion import Completion
from muxjax.serving.executor.launch import Launch, PackedError, RunningJob
from muxjax.serving.executor.llm_runtime import LLMRuntime, Program, compile_step
from muxjax.serving.executor.packed import PackedKey, PackedPart, PackedPrograms
from muxjax.serving.pool import Pool
from muxjax.serving.scheduler.job import Job
from muxjax.serving.spec import LLMSpec, Overlap, PoolSpec


class _Part(NamedTuple):
    """One LLM's jobs of a program, and what they are padded to."""

    runtime: LLMRuntime
    jobs: Sequence[Job]
    sizes: Sequence[int]


class JaxExecutor:
    """The unit's pool on the device and the LLMs that share it."""

    def __init__(
        self,
        pool: Pool,
        spec: PoolSpec,
        max_prefill_tokens: int,
        device: jax.Device | None = None,
        *,
        overlap: Overlap = "interleaved",
    ) -> None:
        """Everything is on `device`; None takes the first one. `overlap` says how the jobs of a step run together."""
        self.device = device or jax.devices()[0]
        self._pool = pool
        self._shape = jax.ShapeDtypeStruct(
            (spec.num_blocks, 2, spec.block_tokens, spec.lane),
            jnp.dtype(spec.dtype),
            sharding=SingleDeviceSharding(self.device),
        )
        self._array = self._empty()
        self._max_prefill_tokens = max_prefill_tokens
        self._background = ThreadPoolExecutor(1, thread_name_prefix="compile")
        self._runtimes: dict[str, LLMRuntime] = {}
        self._packed: PackedPrograms[Program] | None = None
        if overlap != "interleaved":
            self._packed = PackedPrograms(self._compile_packed, self._background)

    def load(self, spec: LLMSpec, model: LoadedModel, max_context: int) -> LLMRuntime:
        """Put an LLM on the device; its programs are still to compile, and then `add` lets it run."""
        return LLMRuntime(
            spec,
            model,
            self._pool,
            self._shape,
            max_context=max_context,
            max_prefill_tokens=self._max_prefill_tokens,
            background=self._background,
            device=self.device,
        )

    def add(self, runtime: LLMRuntime) -> None:
        """Let jobs of this LLM run."""
        self._runtimes[runtime.spec.name] = runtime

    def remove(self, llm: str) -> None:
        """Run no more jobs of this LLM; its memory is free once those on the device have ended."""
        if (runtime := self._runtimes.pop(llm, None)) is not None:
            runtime.close()
            if self._packed is not None:
                self._packed.forget(llm)

    def dispatch(self, job: Job, completions: Mapping[int, Completion]) -> Launch:
        """Start a job by itself; returns before it ends."""
        runtime = self._runtimes[job.llm]
        size, program = runtime.find(job)
        return Launch(self._run(program, [_Part(runtime, [job], [size])], completions))

    def dispatch_packed(self, jobs: Sequence[Job], completions: Mapping[int, Completion]) -> Launch | None:
        """Start all jobs of a step as one program; None: there is none, and they are to start one by one.

        Raises PackedError: they may still start one by one, once what the device lost has been made anew.
        """
        if self._packed is None or len(jobs) < 2:
            return None
        found = self._packed.find(self._packed_key(jobs))
        if found is None:
            return None
        key, program = found
        by_place = {(job.llm, job.kind): job for job in jobs}
        parts = [
            _Part(
                self._runtimes[part.llm], [by_place[part.llm, kind] for kind in part.sizes], list(part.sizes.values())
            )
            for part in key
        ]
        try:
            return Launch(self._run(program, parts, completions), key)
        except Exception as error:
            raise PackedError(key) from error

    def _run(
        self, program: Program, parts: Sequence[_Part], completions: Mapping[int, Completion]
    ) -> tuple[RunningJob, ...]:
        inputs = tuple(part.runtime.inputs(part.jobs, part.sizes, completions) for part in parts)
        self._array, logits = program.forward(self._array, inputs)
        running: list[RunningJob] = []
        for part, *of_part in zip(parts, program.samplers, inputs, logits, strict=True):
            running += map(RunningJob, part.jobs, part.runtime.sample(*of_part))
        return tuple(running)

    def _packed_key(self, jobs: Sequence[Job]) -> PackedKey:
        sizes: dict[str, dict[str, int]] = defaultdict(dict)
        for job in jobs:
            sizes[job.llm][job.kind.value] = self._runtimes[job.llm].packed_size(job)
        return tuple(PackedPart(llm, **sizes[llm]) for llm in sorted(sizes))

    def _compile_packed(self, key: PackedKey) -> Program:
        return compile_step([self._runtimes[part.llm] for part in key], self._shape, [part.sizes for part in key])

    def forbid(self, key: PackedKey) -> None:
        """Run such jobs one by one from now on."""
        if self._packed is not None:
            self._packed.forbid(key)

    def reset(self, llms: Collection[str]) -> Collection[str]:
        """Make the state of LLMs on the device anew, after jobs of theirs failed and took what was donated along.

        Returns the LLMs whose state was lost: these, or all of them if the jobs took the pool along.
        """
        if not self._pool_is_lost():
            for llm in llms:
                self._runtimes[llm].reset()
            return llms
        self.reset_all()
        return tuple(self._runtimes)

    def reset_all(self) -> None:
        """Make the whole state on the device anew."""
        self._array = self._empty()
        for runtime in self._runtimes.values():
            runtime.reset()

    def _empty(self) -> jax.Array:
        return jnp.zeros(self._shape.shape, self._shape.dtype, device=self.device)

    def _pool_is_lost(self) -> bool:
        """Whether the pool went into a job that did not give it back; waits for the jobs on the device."""
        try:
            self._array.block_until_ready()
        except (RuntimeError, ValueError):  # what failed on the device, and what was donated and is gone
            return True
        return False

    def close(self) -> None:
        """Stop compiling in the background."""
        self._background.shutdown(cancel_futures=True)
