"""The last minute of a unit, sample by sample, as its views draw it."""

from collections import deque
from dataclasses import dataclass, field

from muxjax.serving.statistics import Percentiles
from muxjax.serving.unit import LLMStatus, UnitStatus

SAMPLES = 60
"""How many are kept; views take one a second."""

type Series = deque[float | None]


def _series() -> Series:
    return deque(maxlen=SAMPLES)


@dataclass(frozen=True, slots=True)
class LLMHistory:
    """One LLM's figures at each sample, oldest first; None where there was none.

    Attributes:
        running: sequences with memory.
        waiting: sequences without.
        tokens_per_second: generated since the sample before.
        ttft_p50: median time to the first token, in seconds.
        ttft_p99: its 99th percentile.
        tpot_p50: median time between tokens, in seconds.
        tpot_p99: its 99th percentile.
        slo_attainment: share of completions that were as fast as promised.
    """

    running: Series = field(default_factory=_series)
    waiting: Series = field(default_factory=_series)
    tokens_per_second: Series = field(default_factory=_series)
    ttft_p50: Series = field(default_factory=_series)
    ttft_p99: Series = field(default_factory=_series)
    tpot_p50: Series = field(default_factory=_series)
    tpot_p99: Series = field(default_factory=_series)
    slo_attainment: Series = field(default_factory=_series)

    def add(self, status: LLMStatus, tokens_per_second: float) -> None:
        """Take a sample."""
        self.running.append(status.running)
        self.waiting.append(status.waiting)
        self.tokens_per_second.append(round(tokens_per_second, 1))
        _add_percentiles(self.ttft_p50, self.ttft_p99, status.ttft)
        _add_percentiles(self.tpot_p50, self.tpot_p99, status.tpot)
        self.slo_attainment.append(None if status.slo_attainment is None else round(status.slo_attainment, 4))


def _add_percentiles(p50: Series, p99: Series, percentiles: Percentiles | None) -> None:
    p50.append(None if percentiles is None else round(percentiles.p50, 6))
    p99.append(None if percentiles is None else round(percentiles.p99, 6))


class History:
    """Grows by one sample at a time; an LLM that the unit no longer has is forgotten.

    Attributes:
        llms: by name.
    """

    def __init__(self) -> None:
        self.llms: dict[str, LLMHistory] = {}
        self._generated: dict[str, int] = {}
        self._time = 0.0

    def add(self, status: UnitStatus, now: float) -> None:
        """Take a sample at a time in seconds, which never goes back. A count that does tells of a new server."""
        seconds = now - self._time
        self.llms = {llm.name: self.llms.get(llm.name, LLMHistory()) for llm in status.llms}
        for llm in status.llms:
            tokens = llm.generated_tokens - self._generated.get(llm.name, llm.generated_tokens)
            self.llms[llm.name].add(llm, max(tokens, 0) / seconds if seconds > 0 else 0.0)
        self._generated = {llm.name: llm.generated_tokens for llm in status.llms}
        self._time = now
