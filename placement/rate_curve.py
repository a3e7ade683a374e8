"""Rates that change over time, as ServeGen's traces have them, aggregated to windows."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from muxjax.placement.errors import PlacementError
from muxjax.placement.workload import Lengths, Request

_WINDOWS = "total_rate_per_window"
_MOST_COMPLAINTS = 20


@dataclass(frozen=True, slots=True)
class RateCurve:
    """The rate of one model in windows of equal length, within which it does not change: requests/s of each."""

    rates: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Requests/s over all windows."""
        return sum(self.rates) / len(self.rates)

    def arrivals(self, generator: np.random.Generator, rate: float, duration: float) -> NDArray[np.float64]:
        """A Poisson process that follows the curve, squeezed or stretched to `duration` seconds and the mean `rate`."""
        shares = np.concatenate(([0.0], np.cumsum(self.rates))) / sum(self.rates)
        drawn = np.sort(generator.random(generator.poisson(rate * duration)))
        return np.interp(drawn, shares, np.linspace(0, duration, len(shares)))


def has_curves(path: Path) -> bool:
    """Whether a file has rates over time, rather than requests: JSON whose `models` are an object."""
    if path.suffix != ".json":
        return False
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # the reader of requests says what is wrong
    return isinstance(data, dict) and isinstance(data.get("models"), dict) and "requests" not in data


def read_curves(path: Path) -> dict[str, RateCurve]:
    """Each model's curve, from `{models: {name: {total_rate_per_window: [[second, rate], ...]}}}`.

    Raises:
        PlacementError: with the path of everything that is wrong.
    """
    models = json.loads(path.read_text(encoding="utf-8"))["models"]
    complaints: list[str] = []
    curves = {}
    for name, model in models.items():
        at = f"{path}: models.{name}.{_WINDOWS}"
        windows = model.get(_WINDOWS) if isinstance(model, dict) else None
        if not isinstance(windows, list) or len(windows) < 2:
            complaints.append(f"{at}: must be a list of at least two [second, requests/s]")
            continue
        bad = [
            f"{at}.{number}: must be [second, requests/s] from 0, not {window!r}"
            for number, window in enumerate(windows)
            if not _is_window(window)
        ]
        complaints += bad
        if bad:
            continue
        times, rates = zip(*windows, strict=True)
        if len(set(np.diff(times).round(6))) > 1 or times[1] <= times[0]:
            complaints.append(f"{at}: windows must follow one another and be equally long")
        elif not sum(rates) > 0:
            complaints.append(f"{at}: all rates are 0")
        else:
            curves[name] = RateCurve(rates)
    if len(complaints) > _MOST_COMPLAINTS:
        complaints[_MOST_COMPLAINTS:] = [f"{path}: and {len(complaints) - _MOST_COMPLAINTS} more like these"]
    if complaints or not curves:
        raise PlacementError(complaints or [f"{path}: models: there are none"])
    return curves


def follow_curves(
    curves: Mapping[str, RateCurve],
    rates: Mapping[str, float],
    lengths: Mapping[str, Lengths],
    duration: float,
    seed: int,
) -> list[Request]:
    """Requests of all LLMs by arrival: so many a second of each as its rate, for `duration` seconds.

    An LLM follows the curve of its name; the others follow those that are left, the busiest curve for the highest rate.
    """
    named = {llm: curves[llm] for llm in rates if llm in curves}
    others = [llm for llm in sorted(rates, key=lambda name: -rates[name]) if llm not in named]
    left = sorted((curve for name, curve in curves.items() if name not in named), key=lambda curve: -curve.mean)
    assigned = named | dict(zip(others, cycle(left or curves.values()), strict=False))
    requests: list[Request] = []
    for number, (llm, rate) in enumerate(rates.items()):
        generator = np.random.default_rng((seed, number))
        arrivals = assigned[llm].arrivals(generator, rate, duration)
        prompts, outputs = lengths[llm].draw(generator, len(arrivals))
        columns = zip(arrivals.tolist(), prompts.tolist(), outputs.tolist(), strict=True)
        requests += (Request(arrival, llm, prompt, output) for arrival, prompt, output in columns)
    return sorted(requests, key=lambda request: request.arrival)


def _is_window(window: object) -> bool:
    return (
        isinstance(window, list)
        and len(window) == 2
        and all(isinstance(number, (int, float)) and not isinstance(number, bool) for number in window)
        and 0 <= window[1] < float("inf")
    )
