"""What `ModelStatistics` tells: how many inferences there were, and how long they took."""

import time
from collections import defaultdict
from dataclasses import dataclass, field

from muxjax.serving.frontends.oip import open_inference_pb2 as pb
from muxjax.serving.frontends.oip.responses import VERSION


@dataclass(slots=True)
class _Figures:
    """One model's: counts, and nanoseconds of all of them together."""

    successes: int = 0
    success_ns: int = 0
    failures: int = 0
    failure_ns: int = 0
    last_ms: int = 0


@dataclass(slots=True)
class Statistics:
    """Counts the inferences of this protocol."""

    _figures: dict[str, _Figures] = field(default_factory=lambda: defaultdict(_Figures))

    def succeeded(self, model: str, seconds: float) -> None:
        """An inference gave its last response."""
        figures = self._figures[model]
        figures.successes += 1
        figures.success_ns += round(seconds * 1e9)
        figures.last_ms = time.time_ns() // 1_000_000

    def failed(self, model: str, seconds: float) -> None:
        """An inference of a known model ended with an error, or was cancelled."""
        figures = self._figures[model]
        figures.failures += 1
        figures.failure_ns += round(seconds * 1e9)

    def message(self, model: str) -> pb.ModelStatistics:
        """One model's statistics."""
        figures = self._figures.get(model, _Figures())
        success = pb.StatisticDuration(count=figures.successes, ns=figures.success_ns)
        return pb.ModelStatistics(
            name=model,
            version=VERSION,
            last_inference=figures.last_ms,
            inference_count=figures.successes,
            execution_count=figures.successes,
            inference_stats=pb.InferStatistics(
                success=success,
                fail=pb.StatisticDuration(count=figures.failures, ns=figures.failure_ns),
                queue=pb.StatisticDuration(count=figures.successes),
                compute_input=pb.StatisticDuration(count=figures.successes),
                compute_infer=success,
                compute_output=pb.StatisticDuration(count=figures.successes),
            ),
        )
