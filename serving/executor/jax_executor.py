"""Runs steps on the unit's device or devices: one program per job, back to back, or one for all jobs of a step."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from operator import attrgetter

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from muxjax.models.load import LoadedModel
from muxjax.serving.completion import Completion
from muxjax.serving.executor.launch import Launch, PackedError, RunningJob
from muxjax.serving.executor.llm_runtime import LLMRuntime, Program, compile_step
from muxjax.serving.executor.packed import PackedKey, PackedPart, PackedPrograms
from muxjax.serving.executor.program import LLMInputs
from muxjax.serving.executor.spmd import pool_shape
from muxjax.serving.pool import Pool
from muxjax.serving.scheduler.job import Job
from muxjax.serving.spec import LLMSpec, Overlap, PoolSpec


def packed_options(overlap: Overlap, platform: str) -> dict[str, str]:
    """XLA's options for packed programs: by default the operations of a command buffer run one after another."""
    if overlap == "concurrent" and platform == "gpu":
        return {"xla_gpu_command_buffer_scheduling_mode": "CONCURRENT"}
    return {}


class JaxExecutor:
    """The unit's pool on the device and the LLMs that share it."""

    def __init__(
        self,
        pool: Pool,
        spec: PoolSpec,
        max_prefill_tokens: int,
        mesh: Mesh,
        *,
        overlap: Overlap = "interleaved",
    ) -> None:
        """Each device of `mesh` has a pool as `spec` says; `overlap` is how the jobs of a step run together."""
        self.mesh = mesh
        self._pool = pool
        self._shape = pool_shape(spec, mesh)
        self._array = self._empty()
        self._max_prefill_tokens = max_prefill_tokens
        self._background = ThreadPoolExecutor(1, thread_name_prefix="compile")
        self._runtimes: dict[str, LLMRuntime] = {}
        self._compiler_options = packed_options(overlap, mesh.devices.flat[0].platform)
        self._packed: PackedPrograms[Program] | None = None
        if overlap != "interleaved":
            self._packed = PackedPrograms(self._compile_packed, self._background)

    def load(self, spec: LLMSpec, model: LoadedModel, max_context: int) -> LLMRuntime:
        """Take an LLM that was loaded to `mesh`; its programs are still to compile, and then `add` lets it run."""
        return LLMRuntime(
            spec,
            model,
            self._pool,
            self._shape,
            max_context=max_context,
            max_prefill_tokens=self._max_prefill_tokens,
            background=self._background,
            mesh=self.mesh,
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
        return self._launch(program, [[job]], (runtime.inputs([job], [size], completions),))

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
        places = {(job.llm, job.kind): job for job in jobs}
        ordered = [[places[part.llm, kind] for kind in part.sizes] for part in key]
        try:
            inputs = tuple(
                self._runtimes[part.llm].inputs(of_one, part.sizes.values(), completions)
                for part, of_one in zip(key, ordered, strict=True)
            )
            return self._launch(program, ordered, inputs, key)
        except Exception as error:
            raise PackedError(key) from error

    def repeat(self, launch: Launch) -> Launch:
        """Start the decodes of a launch once more, for the next token of each sequence. Raises as it did itself."""
        jobs = [running.job for running in launch.jobs]
        by_llm = [list(of_one) for _, of_one in groupby(jobs, key=attrgetter("llm"))]
        try:
            inputs = tuple(
                self._runtimes[of_one[0].llm].advance(brought)
                for of_one, brought in zip(by_llm, launch.inputs, strict=True)
            )
            return self._launch(launch.program, by_llm, inputs, launch.packed)
        except Exception as error:
            if launch.packed is None:
                raise
            raise PackedError(launch.packed) from error

    def _launch(
        self,
        program: Program,
        jobs: Sequence[Sequence[Job]],
        inputs: tuple[LLMInputs[np.ndarray], ...],
        packed: PackedKey | None = None,
    ) -> Launch:
        """Run a program; `jobs` are each LLM's."""
        self._array, logits = program.forward(self._array, inputs)
        running: list[RunningJob] = []
        for of_one, *sampling in zip(jobs, program.samplers, inputs, logits, strict=True):
            running += map(RunningJob, of_one, self._runtimes[of_one[0].llm].sample(*sampling))
        return Launch(tuple(running), program, inputs, packed)

    def _packed_key(self, jobs: Sequence[Job]) -> PackedKey:
        sizes: dict[str, dict[str, int]] = defaultdict(dict)
        for job in jobs:
            sizes[job.llm][job.kind.value] = self._runtimes[job.llm].packed_size(job)
        return tuple(PackedPart(llm, **sizes[llm]) for llm in sorted(sizes))

    def _compile_packed(self, key: PackedKey) -> Program:
        llms, sizes = [self._runtimes[part.llm] for part in key], [part.sizes for part in key]
        return compile_step(llms, self._shape, sizes, self._compiler_options)

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
        return jnp.zeros(self._shape.shape, self._shape.dtype, device=self._shape.sharding)

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
