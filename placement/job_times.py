"""Prefill and decode times of one LLM at every batch size, which all searches calculate with."""

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from muxjax.placement.cost.cost_model import CostModel, Seconds, scheduling_seconds
from muxjax.placement.model_shape import ModelShape
from muxjax.placement.problem import LLM

PREFILL_SHARE = 100  # a prefill has the whole mesh in MuxServe's estimate


@dataclass(frozen=True, eq=False)
class JobTimes:
    """Times on a mesh with one decode share; index b is batch size b, from 0.

    Attributes:
        prefill: seconds of a prefill of b prompts.
        decode: seconds of one decode step of b sequences, without scheduling.
        scheduling: seconds that scheduling adds to a decode step for each sequence.
        output_len: decode steps of a completion.
    """

    prefill: Seconds
    decode: Seconds
    scheduling: float
    output_len: float

    @property
    def max_batch(self) -> int:
        """The largest batch."""
        return len(self.prefill) - 1

    @cached_property
    def completion(self) -> Seconds:
        """Seconds of all decode steps of a completion, by batch size."""
        return (self.decode + self.scheduling * np.arange(len(self.decode))) * self.output_len

    @cached_property
    def lists(self) -> tuple[list[float], list[float]]:
        """Prefill and completion as lists, which are faster to index one by one."""
        return self.prefill.tolist(), self.completion.tolist()


class Costs:
    """A cost model, tabulated for the LLMs that are asked for."""

    def __init__(self, model: CostModel) -> None:
        self._model = model
        self._tabulate = cache(self._make_times)

    def gpu_counts(self, llm: LLM) -> tuple[int, ...]:
        """Mesh sizes on which the cost model knows the LLM."""
        return tuple(self._model.gpu_counts(llm.shape))

    def decode_shares(self, llm: LLM, gpus: int) -> tuple[int, ...]:
        """Shares that decode steps may have: all but the prefills' whole, if there is any other."""
        shares = tuple(self._model.shares(llm.shape, gpus))
        return tuple(share for share in shares if share <= 90) or shares

    def times(self, llm: LLM, gpus: int, share: int) -> JobTimes:
        """The LLM's times on a mesh of `gpus` with a decode share in percent."""
        return self._tabulate(llm.shape, llm.prompt_len, llm.output_len, gpus, share)

    def _make_times(self, shape: ModelShape, prompt_len: float, output_len: float, gpus: int, share: int) -> JobTimes:
        largest = self._model.max_batch(shape, gpus, share)
        batch = np.arange(largest + 1, dtype=np.float64)
        prefill = self._model.prefill_seconds(shape, gpus, PREFILL_SHARE, batch, prompt_len)
        decode = self._model.mean_decode_seconds(shape, gpus, share, batch, prompt_len, output_len)
        return JobTimes(prefill, decode, scheduling_seconds(shape), output_len)
