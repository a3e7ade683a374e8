"""A cost table read smoothly: between profiled batches, lengths and shares latencies are interpolated."""

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from muxjax.placement.cost.cost_model import Seconds
from muxjax.placement.cost.profiled import ProfiledTable
from muxjax.placement.cost.table import CostTable
from muxjax.placement.model_shape import ModelShape


class InterpolatedTable(ProfiledTable):
    """Latencies that are linear between neighbours in batch and length.

    Holes are filled from the next smaller length and batch: a prefill in proportion to its tokens, a decode step as
    it is. Beyond the table a prefill grows with its tokens; a decode step continues its last slope in the context.
    """

    def __init__(self, table: CostTable) -> None:
        super().__init__(table)
        self._grid = cache(self._make_grid)

    def prefill_seconds(
        self, model: ModelShape, gpus: int, share: int, batch: ArrayLike, prompt_len: ArrayLike
    ) -> Seconds:
        """Bilinear in batch and length; below the smallest length as at it, above the largest in proportion."""
        batch, length = np.asarray(batch, np.float64), np.asarray(prompt_len, np.float64)
        sizes, lengths, prefill, _ = self._grid(model.name, gpus, share)
        beyond = np.maximum(1, batch / sizes[-1]) * np.maximum(1, length / lengths[-1])
        return beyond * _bilinear(sizes, lengths, prefill, batch, length)

    def decode_seconds(self, model: ModelShape, gpus: int, share: int, batch: ArrayLike, context: ArrayLike) -> Seconds:
        """Bilinear in batch and context."""
        batch, context = np.asarray(batch, np.float64), np.asarray(context, np.float64)
        sizes, lengths, _, decode = self._grid(model.name, gpus, share)
        at = _bilinear(sizes, lengths, decode, batch, context)
        if len(lengths) < 2:
            return at
        ends = [_bilinear(sizes, lengths, decode, batch, end) for end in lengths[[-1, 0]]]
        slope = np.maximum(0, ends[0] - ends[1]) / (lengths[-1] - lengths[0])
        return at + np.maximum(0, context - lengths[-1]) * slope

    def mean_decode_seconds(
        self, model: ModelShape, gpus: int, share: int, batch: ArrayLike, prompt_len: float, output_len: float
    ) -> Seconds:
        """At the middle of the completion."""
        return self.decode_seconds(model, gpus, share, batch, prompt_len + output_len / 2)

    def _make_grid(self, model: str, gpus: int, share: int) -> tuple[Seconds, Seconds, Seconds, Seconds]:
        batches = self._table.batches(model, gpus, share)
        sizes = np.array(sorted(batches), np.float64)
        lengths = np.array(sorted({length for entries in batches.values() for length in entries}), np.float64)
        prefill, decode = (np.full((len(sizes), len(lengths)), np.nan) for _ in range(2))
        for row, batch in enumerate(sizes):
            for column, length in enumerate(lengths):
                if (entry := batches[int(batch)].get(int(length))) is not None:
                    prefill[row, column] = np.nan if entry.prefill is None else entry.prefill
                    decode[row, column] = np.nan if entry.decode is None else entry.decode
        return sizes, lengths, _fill(prefill, sizes, lengths), _fill(decode, np.ones_like(sizes), np.ones_like(lengths))


def _fill(values: Seconds, row_weights: Seconds, column_weights: Seconds) -> Seconds:
    """Holes from the nearest value to the left, scaled by the columns' weights; then from above; then from anywhere."""
    filled = _forward(values / column_weights) * column_weights
    filled = (_forward((filled / row_weights[:, None]).T) * row_weights).T
    return _forward(filled[:, ::-1])[:, ::-1] if np.isnan(filled).any() else filled


def _forward(values: Seconds) -> Seconds:
    """Along rows, each NaN replaced by the last number before it."""
    index = np.where(np.isnan(values), 0, np.arange(values.shape[1]))
    return np.take_along_axis(values, np.maximum.accumulate(index, axis=1), axis=1)


def _bilinear(sizes: Seconds, lengths: Seconds, values: Seconds, batch: Seconds, length: Seconds) -> Seconds:
    row, row_part = _position(sizes, batch)
    column, column_part = _position(lengths, length)
    next_row, next_column = np.minimum(row + 1, len(sizes) - 1), np.minimum(column + 1, len(lengths) - 1)
    low = values[row, column] * (1 - column_part) + values[row, next_column] * column_part
    high = values[next_row, column] * (1 - column_part) + values[next_row, next_column] * column_part
    return low * (1 - row_part) + high * row_part


def _position(grid: Seconds, at: Seconds) -> tuple[NDArray[np.intp], Seconds]:
    """The cell and the place in it, clamped to the grid."""
    clamped = np.clip(at, grid[0], grid[-1])
    cell = np.minimum(np.searchsorted(grid, clamped, side="right") - 1, max(0, len(grid) - 2))
    if len(grid) < 2:
        return cell, np.zeros_like(clamped)
    return cell, (clamped - grid[cell]) / (grid[cell + 1] - grid[cell])
