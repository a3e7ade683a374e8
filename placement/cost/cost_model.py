"""How long the jobs of an LLM take on a mesh: the interface of all cost models."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from muxjax.placement.model_shape import ModelShape

Seconds = NDArray[np.float64]


class CostModel(Protocol):
    """Latencies of the jobs of one LLM, alone on a mesh of `gpus` GPUs, with `share` percent of their compute.

    Batches and lengths are numbers or arrays that broadcast; so are the results, in seconds.
    """

    def gpu_counts(self, model: ModelShape) -> Sequence[int]:
        """Mesh sizes on which the model can run, ascending; none if it is not known."""
        ...

    def shares(self, model: ModelShape, gpus: int) -> Sequence[int]:
        """Compute shares for which latencies are known, in percent, ascending."""
        ...

    def max_batch(self, model: ModelShape, gpus: int, share: int) -> int:
        """The largest batch whose latency is known."""
        ...

    def prefill_seconds(
        self, model: ModelShape, gpus: int, share: int, batch: ArrayLike, prompt_len: ArrayLike
    ) -> Seconds:
        """Prefill of `batch` prompts of `prompt_len` tokens each."""
        ...

    def decode_seconds(self, model: ModelShape, gpus: int, share: int, batch: ArrayLike, context: ArrayLike) -> Seconds:
        """One decode step of `batch` sequences of `context` tokens each."""
        ...

    def mean_decode_seconds(
        self, model: ModelShape, gpus: int, share: int, batch: ArrayLike, prompt_len: float, output_len: float
    ) -> Seconds:
        """One decode step, averaged over completions that grow from `prompt_len` by `output_len` tokens."""
        ...


def scheduling_seconds(model: ModelShape) -> float:
    """What MuxServe's code (not its paper) adds to each decode step for each sequence of the batch."""
    billions = model.weight_gb / 2
    return 1e-4 if billions < 10 else 8e-5 if billions < 20 else 7e-5
