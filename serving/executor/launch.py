"""Jobs on their way through the device, and the tokens that are read of them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from muxjax.serving.completion import Completion
from muxjax.serving.executor.llm_runtime import Program
from muxjax.serving.executor.packed import PackedKey
from muxjax.serving.executor.program import LLMInputs
from muxjax.serving.request import TokenLogprobs
from muxjax.serving.sampling import Sampled
from muxjax.serving.scheduler.job import Chunk, Job


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


@dataclass(frozen=True, slots=True)
class Launch:
    """Jobs that the device has as one program.

    Attributes:
        jobs: at least one, those of an LLM beside each other.
        program: what runs them.
        inputs: what each LLM brought into it.
        packed: what the program was compiled for, if it is one for several jobs.
    """

    jobs: tuple[RunningJob, ...]
    program: Program
    inputs: tuple[LLMInputs[np.ndarray], ...]
    packed: PackedKey | None

    def jobs_of_others(self, llms: Collection[str]) -> tuple[RunningJob, ...]:
        """The jobs that are not of these LLMs."""
        return tuple(running for running in self.jobs if running.job.llm not in llms)


class PackedError(Exception):
    """A packed program failed; its jobs can run one by one.

    Attributes:
        key: what it was compiled for.
    """

    def __init__(self, key: PackedKey) -> None:
        super().__init__("a packed program failed")
        self.key = key


def _num_logprobs(completion: Completion | None) -> int | None:
    return None if completion is None else completion.request.sampling.logprobs
