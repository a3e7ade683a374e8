"""What one LLM did lately and in all, in bounded memory.

Everything is written and read under the engine's lock; nothing here takes one.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from muxjax.serving.histogram import Histogram, HistogramCounts
from muxjax.serving.request import FinishReason
from muxjax.serving.scheduler.job import JobKind
from muxjax.serving.spec import SLO

LATENCY_BUCKETS: Mapping[str, Sequence[float]] = {
    "time_to_first_token_seconds": (
        *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0),
        *(80.0, 160.0, 640.0, 2560.0),
    ),
    "inter_token_latency_seconds": (
        *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0),
        *(20.0, 40.0, 80.0),
    ),
    **dict.fromkeys(
        (
            "e2e_request_latency_seconds",
            "request_queue_time_seconds",
            "request_prefill_time_seconds",
            "request_decode_time_seconds",
        ),
        (0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 60.0, 120.0, 240.0),
    ),
}
"""Upper bounds of the histograms' buckets, by vLLM's names; those of the first are its too."""
RATE_SECONDS = 10
"""How far back rates and shares of the steps' time look."""
LATENCY_SECONDS = 60.0
"""How far back percentiles and the attainment of objectives look."""
_MOST_SAMPLES = 4096


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of recent latencies, in seconds."""

    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Percentiles | None":
        """The nearest ranks; None without values."""
        if not values:
            return None
        ordered = sorted(values)
        return cls(*(ordered[max(math.ceil(share * len(ordered)), 1) - 1] for share in (0.5, 0.9, 0.99)))


@dataclass(slots=True)
class Timing:
    """When one completion came to what, in seconds of the engine's clock; None: not yet.

    Attributes:
        arrival: it was taken.
        started: its first job was dispatched.
        first_token: its first token was read.
        last_token: its newest token was read.
    """

    arrival: float
    started: float | None = None
    first_token: float | None = None
    last_token: float | None = None

    def time_per_token(self, num_tokens: int) -> float | None:
        """Mean seconds between its tokens; None for fewer than two."""
        if self.first_token is None or self.last_token is None or num_tokens < 2:
            return None
        return (self.last_token - self.first_token) / (num_tokens - 1)

    def meets(self, slo: SLO, num_tokens: int) -> bool:
        """Whether it was as fast as promised; a completion without a token was not."""
        if self.first_token is None:
            return False
        is_prompt = slo.ttft is None or self.first_token - self.arrival <= slo.ttft
        return is_prompt and (slo.tpot is None or (self.time_per_token(num_tokens) or 0.0) <= slo.tpot)


class RecentSum:
    """The sum of what was added in the last RATE_SECONDS, by the second."""

    def __init__(self) -> None:
        self._sums = [0.0] * RATE_SECONDS
        self._seconds = [-1] * RATE_SECONDS

    def add(self, value: float, now: float) -> None:
        """Add at a time, which never goes back."""
        second = int(now)
        slot = second % RATE_SECONDS
        if self._seconds[slot] != second:
            self._seconds[slot], self._sums[slot] = second, 0.0
        self._sums[slot] += value

    def total(self, now: float) -> float:
        """The sum now."""
        oldest = int(now) - RATE_SECONDS
        return sum(value for value, second in zip(self._sums, self._seconds, strict=True) if second > oldest)

    def rate(self, now: float, since: float) -> float:
        """The sum per second; nothing was added before `since`."""
        covered = min(RATE_SECONDS - 1 + now % 1, now - since)
        return self.total(now) / covered if covered > 0 else 0.0


class RecentSamples:
    """The values of the last LATENCY_SECONDS, the newest few thousand of them."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque(maxlen=_MOST_SAMPLES)

    def add(self, value: float, now: float) -> None:
        """Add a value at a time, which never goes back."""
        self._samples.append((now, value))

    def values(self, now: float) -> list[float]:
        """The values now, oldest first."""
        while self._samples and self._samples[0][0] < now - LATENCY_SECONDS:
            self._samples.popleft()
        return [value for _, value in self._samples]


class LLMStatistics:
    """One LLM's figures.

    Attributes:
        slo: what it promises; None promises nothing.
        prompt_tokens: taken so far.
        generated_tokens: read so far.
        ended: completions so far by how they ended.
        ttft: seconds from arrival to the first token, of recent completions.
        tpot: mean seconds between tokens, of completions that ended recently.
        met: 1 for each recent completion that was as fast as promised, 0 for each other one.
        tokens: generated recently.
        job_seconds: of recent jobs, by kind.
    """

    def __init__(self, slo: SLO | None, now: float) -> None:
        self.slo = slo
        self.prompt_tokens = 0
        self.generated_tokens = 0
        self.ended = dict.fromkeys(FinishReason, 0)
        self.ttft = RecentSamples()
        self.tpot = RecentSamples()
        self.met = RecentSamples()
        self.tokens = RecentSum()
        self.job_seconds = {kind: RecentSum() for kind in JobKind}
        self._since = now
        self._latencies = {name: Histogram(bounds) for name, bounds in LATENCY_BUCKETS.items()}
        self._between_tokens = self._latencies["inter_token_latency_seconds"]

    def latencies(self) -> dict[str, HistogramCounts]:
        """All latencies so far, by the names of LATENCY_BUCKETS."""
        return {name: histogram.counts() for name, histogram in self._latencies.items()}

    def token_read(self, timing: Timing, now: float) -> None:
        """A completion has one token more."""
        if timing.first_token is None:
            timing.first_token = now
            self.ttft.add(now - timing.arrival, now)
            self._latencies["time_to_first_token_seconds"].add(now - timing.arrival)
        elif timing.last_token is not None:
            self._between_tokens.add(now - timing.last_token)
        timing.last_token = now
        self.generated_tokens += 1

    def job_read(self, kind: JobKind, num_tokens: int, seconds: float, now: float) -> None:
        """A job has ended; it kept the device for so long."""
        self.tokens.add(num_tokens, now)
        self.job_seconds[kind].add(seconds, now)

    def completion_ended(self, reason: FinishReason, timing: Timing, num_tokens: int, now: float) -> None:
        """A completion is over. One that its client gave up says nothing of what was promised."""
        self.ended[reason] += 1
        started, first = timing.started or now, timing.first_token or now
        self._latencies["e2e_request_latency_seconds"].add(now - timing.arrival)
        self._latencies["request_queue_time_seconds"].add(started - timing.arrival)
        self._latencies["request_prefill_time_seconds"].add(first - started)
        self._latencies["request_decode_time_seconds"].add(now - first)
        tpot = timing.time_per_token(num_tokens)
        if tpot is not None:
            self.tpot.add(tpot, now)
        if self.slo is not None and reason is not FinishReason.ABORT:
            is_whole = reason in (FinishReason.STOP, FinishReason.LENGTH)
            self.met.add(is_whole and timing.meets(self.slo, num_tokens), now)

    def tokens_per_second(self, now: float) -> float:
        """Generated recently."""
        return self.tokens.rate(now, self._since)

    def attainment(self, now: float) -> float | None:
        """Share of recent completions that were as fast as promised; None if nothing was promised, or none ended."""
        met = self.met.values(now)
        return sum(met) / len(met) if met else None
