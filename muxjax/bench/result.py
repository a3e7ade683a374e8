"""What a part of the benchmark found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


class BenchError(Exception):
    """Something cannot be measured; the message says what and why."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A promise about speed, and how it went.

    Attributes:
        name: what was promised.
        limit: the least (or most) that keeps it.
        measured: None if it could not be measured.
        at_least: whether more is better.
    """

    name: str
    limit: float
    measured: float | None
    at_least: bool

    @property
    def met(self) -> bool | None:
        """Whether the promise was kept; None if nobody knows."""
        if self.measured is None:
            return None
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "limit": self.limit,
            "at_least": self.at_least,
            "measured": rounded(self.measured),
            "met": self.met,
        }


@dataclass(frozen=True, slots=True)
class Part:
    """Figures for JSON, and the budgets that they decide."""

    figures: dict[str, Any]
    budgets: tuple[Budget, ...]


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return float(np.median(values))


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of ours / theirs round by round, so that a machine whose speed drifts does not decide it."""
    return median([one / other for one, other in zip(ours, theirs, strict=True)])


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """In milliseconds."""
    values = np.percentile(np.asarray(seconds) * 1e3, (50, 90, 99))
    return {name: float(value) for name, value in zip(("p50", "p90", "p99"), values, strict=True)}


def rounded(values: Any) -> Any:
    """The same with every float to four significant digits, which is more than any timing has."""
    if isinstance(values, float):
        return float(f"{values:.4g}")
    if isinstance(values, Mapping):
        return {key: rounded(value) for key, value in values.items()}
    if isinstance(values, Sequence) and not isinstance(values, str):
        return [rounded(value) for value in values]
    return values
