"""Runs steps on the device, one program per job, back to back."""

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

from muxjax.models.load import LoadedModel
from muxjax.serving.completion import Completion
from muxjax.serving.executor.llm_runtime import LLMRuntime
from muxjax.serving.pool import Pool
from muxjax.serving.request import TokenLogprobs
from muxjax.serving.sampling import Sampled
from muxjax.serving.scheduler.job import Chunk, Job
from muxjax.serving.spec import LLMSpec, PoolSpec


@dataclass(frozen=True, slots=True)
class SampledToken:
    """A token read from the device, and whose it is."""

    chunk: Chunk
    token_id: int
    logprobs: TokenLogprobs | None


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job on its way through the device."""

    job: Job
    sampled: Sampled

    def read(self, completions: Mapping[int, Completion]) -> list[SampledToken]:
        """Wait for the job and read its tokens; log probabilities only where someone asked for them."""
        token_ids = np.asarray(self.sampled.tokens)
        wanted = [_num_logprobs(completions.get(chunk.sequence.id)) for chunk in self.job.chunks]
        is_wanted = any(count is not None for count in wanted)
        logprobs = self._read_logprobs(wanted) if is_wanted else [None] * len(wanted)
        return [
            SampledToken(chunk, int(token_ids[row]), logprobs[row])
            for row, chunk in enumerate(self.job.chunks)
            if chunk.samples
        ]

    def _read_logprobs(self, wanted: list[int | None]) -> list[TokenLogprobs | None]:
        chosen, top_ids, top_logprobs = (np.asarray(array) for array in self.sampled[1:])
        return [
            None
            if count is None
            else TokenLogprobs(
                float(chosen[row]), tuple(top_ids[row][:count].tolist()), tuple(top_logprobs[row][:count].tolist())
            )
            for row, count in enumerate(wanted)
        ]


def _num_logprobs(completion: Completion | None) -> int | None:
    return None if completion is None else completion.request.sampling.logprobs


class JaxExecutor:
    """The unit's pool on the device and the LLMs that share it."""

    def __init__(self, pool: Pool, spec: PoolSpec, max_prefill_tokens: int, device: jax.Device | None = None) -> None:
        """Everything is on `device`; None takes the first one."""
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

    def dispatch(self, job: Job, completions: Mapping[int, Completion]) -> RunningJob:
        """Start a job; returns before it ends."""
        self._array, sampled = self._runtimes[job.llm].dispatch(job, self._array, completions)
        return RunningJob(job, sampled)

    def reset(self, llm: str) -> Collection[str]:
        """Make an LLM's state on the device anew, after a job of it failed and took what was donated to it along.

        Returns the LLMs whose state was lost: this one, or all of them if the job took the pool along.
        """
        if not self._pool_is_lost():
            self._runtimes[llm].reset()
            return (llm,)
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
