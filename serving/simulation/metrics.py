"""What a simulation says to an operator: throughput, latencies, and how many requests met their objective."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite

import numpy as np

from muxjax.serving.simulation.unit_simulation import Outcome
from muxjax.serving.statistics import Percentiles


@dataclass(frozen=True, slots=True)
class Metrics:
    """Of one LLM, or of several together.

    Attributes:
        requests: how many were sent.
        finished: how many of them ended in time.
        throughput: requests/s until the last one finished.
        latency: mean seconds from arrival to the last token, of those that finished.
        ttft: from arrival to the first token; infinity where too many requests did not get that far, None without
            requests.
        tpot: seconds of each token after the first, likewise.
    """

    requests: int
    finished: int
    throughput: float
    latency: float
    ttft: Percentiles | None
    tpot: Percentiles | None


def measure(outcomes: Sequence[Outcome]) -> Metrics:
    """The metrics of these requests."""
    finished = [outcome for outcome in outcomes if isfinite(outcome.finished)]
    last = max((outcome.finished for outcome in finished), default=inf)
    return Metrics(
        requests=len(outcomes),
        finished=len(finished),
        throughput=len(finished) / last,
        latency=float(np.mean([latency(outcome) for outcome in finished])) if finished else inf,
        ttft=Percentiles.of([outcome.first_token - outcome.request.arrival for outcome in outcomes]),
        tpot=Percentiles.of([_tpot(outcome) for outcome in outcomes if outcome.request.output_len > 1]),
    )


def latency(outcome: Outcome) -> float:
    """Seconds from arrival to the last token."""
    return outcome.finished - outcome.request.arrival


def attainment(outcomes: Sequence[Outcome], objectives: Sequence[float]) -> float:
    """Which part of the requests ended within its objective, in seconds from its arrival; 1 without requests."""
    met = sum(latency(outcome) <= limit for outcome, limit in zip(outcomes, objectives, strict=True))
    return met / len(outcomes) if outcomes else 1.0


def _tpot(outcome: Outcome) -> float:
    if not isfinite(outcome.finished):
        return inf
    return (outcome.finished - outcome.first_token) / (outcome.request.output_len - 1)
