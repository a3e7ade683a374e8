"""A cost table as MuxServe's code reads it: nothing is interpolated, batches and lengths are rounded up."""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

from muxjax.placement.cost.cost_model import Seconds
from muxjax.placement.cost.profiled import ProfiledTable
from muxjax.placement.cost.table import Batches, CostTable, Latency
from muxjax.placement.model_shape import ModelShape

Column = tuple[Seconds, Seconds]
"""Profiled batch sizes, ascending, and a latency for each."""


class RoundedTable(ProfiledTable):
    """Latencies of the next larger profiled batch.

    A prefill takes the first profiled length above the prompts' (161 tokens: 256), or, where that is a hole, the
    nearest one below it. A decode step is averaged over the profiled lengths up to the first above the output's: over
    the means of the first 1, 2, 3... of them, so that short contexts count more.
    """

    def __init__(self, table: CostTable) -> None:
        super().__init__(table)
        self._column = cache(self._make_column)

    def prefill_seconds(
        self, model: ModelShape, gpus: int, share: int, batch: ArrayLike, prompt_len: ArrayLike
    ) -> Seconds:
        """See the class; `prompt_len` may be an array only if `batch` broadcasts to it."""
        return self._look_up(_prefill, model, gpus, share, batch, prompt_len)

    def decode_seconds(self, model: ModelShape, gpus: int, share: int, batch: ArrayLike, context: ArrayLike) -> Seconds:
        """The first profiled length that is not below the context."""
        return self._look_up(_decode, model, gpus, share, batch, context)

    def mean_decode_seconds(
        self, model: ModelShape, gpus: int, share: int, batch: ArrayLike, prompt_len: float, output_len: float
    ) -> Seconds:
        """See the class; the prompt does not count."""
        return self._look_up(_mean_decode, model, gpus, share, batch, output_len)

    def _look_up(
        self, reduce: "_Reduce", model: ModelShape, gpus: int, share: int, batch: ArrayLike, length: ArrayLike
    ) -> Seconds:
        batch, length = np.broadcast_arrays(np.asarray(batch, np.float64), np.asarray(length, np.float64))
        seconds = np.empty(batch.shape)
        for value in np.unique(length):
            sizes, latencies = self._column(reduce, model.name, gpus, share, float(value))
            chosen = length == value
            index = np.searchsorted(sizes, batch[chosen])
            seconds[chosen] = latencies[np.minimum(index, len(sizes) - 1)]
        return seconds

    def _make_column(self, reduce: "_Reduce", model: str, gpus: int, share: int, length: float) -> Column:
        batches: Batches = self._table.batches(model, gpus, share)
        found = {batch: reduce(list(lengths.items()), length) for batch, lengths in batches.items()}
        pairs = sorted((batch, seconds) for batch, seconds in found.items() if seconds is not None)
        sizes, latencies = zip(*pairs, strict=True)
        return np.array(sizes, np.float64), np.array(latencies, np.float64)


_Reduce = Callable[[list[tuple[int, Latency]], float], float | None]
"""From the measurements of one batch size, in the file's order, and a length to the latency that is used."""


def _prefill(lengths: list[tuple[int, Latency]], length: float) -> float | None:
    seconds = None
    for profiled, latency in lengths:
        if latency.prefill is not None:
            seconds = latency.prefill
            if profiled > length:
                break
    return seconds


def _decode(lengths: list[tuple[int, Latency]], length: float) -> float | None:
    measured = sorted((profiled, latency.decode) for profiled, latency in lengths if latency.decode is not None)
    return next(
        (seconds for profiled, seconds in measured if profiled >= length), measured[-1][1] if measured else None
    )


def _mean_decode(lengths: list[tuple[int, Latency]], length: float) -> float | None:
    so_far: list[float] = []
    means: list[float] = []
    last = None
    for profiled, latency in lengths:
        if latency.decode is not None:
            so_far.append(latency.decode)
            means.append(float(np.mean(so_far)))
            if last is None and profiled > length:
                last = len(means)
    return float(np.mean(means[:last])) if means else None
