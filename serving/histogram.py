"""Counts by bucket, as Prometheus wants them, at the cost of a bisection."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HistogramCounts:
    """A histogram at one moment.

    Attributes:
        bounds: upper bounds of the buckets, ascending; one more has none.
        counts: values in each bucket, the one without a bound last.
        total: the sum of all values.
    """

    bounds: Sequence[float]
    counts: Sequence[int]
    total: float


class Histogram:
    """How many values fell into each bucket."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._total = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def counts(self) -> HistogramCounts:
        """What was counted so far."""
        return HistogramCounts(self._bounds, tuple(self._counts), self._total)
