"""The one interface through which frontends see a unit, wherever it runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from muxjax.serving.histogram import HistogramCounts
from muxjax.serving.request import FinishReason, Output, Request
from muxjax.serving.spec import SLO
from muxjax.serving.statistics import Percentiles

Deliver = Callable[[Sequence[Output]], None]
"""Called from the unit's own thread, at most once a step, with all new outputs that go to this receiver."""


class RefusedError(Exception):
    """The unit did not take the request: its LLM's queue is full, or the unit is draining.

    Attributes:
        retry_after: seconds after which trying again makes sense; None when it does not.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class LLMStatus:
    """One LLM's state at one moment; block figures count head blocks of the unit's pool.

    Shares and rates look back `muxjax.serving.statistics.RATE_SECONDS`, percentiles and the attainment
    LATENCY_SECONDS.

    Attributes:
        name: what clients call it.
        state: of `LLMState`.
        waiting: sequences without memory.
        running: sequences with memory.
        blocks_used: blocks that it holds.
        blocks_quota: blocks that it may hold now.
        preemptions: sequences that lost their memory so far.
        prompt_tokens: taken so far.
        generated_tokens: so far.
        error: why it failed.
        blocks_entitled: its quota by popularity and size alone; see `blocks_borrowed`.
        errors: completions that the unit could not finish so far.
        prefill_share: of the steps' time, taken by its prefills.
        decode_share: of the steps' time, taken by its decodes.
        tokens_per_second: generated.
        ttft: time to the first token; None if there was none.
        tpot: mean time between a completion's tokens; None if none ended.
        slo: what was promised of them; None is nothing.
        slo_attainment: share of completions that were as fast as promised; None if nothing was, or none ended.
        ended: completions so far by how they ended.
        latencies: so far, by the names of `muxjax.serving.statistics.LATENCY_BUCKETS`.
        programs_compiled: of those that it needs before it is served.
        programs_needed: 0 until that is known.
    """

    name: str
    state: str
    waiting: int
    running: int
    blocks_used: int
    blocks_quota: int
    preemptions: int
    prompt_tokens: int
    generated_tokens: int
    error: str | None = None
    blocks_entitled: int = 0
    errors: int = 0
    prefill_share: float = 0.0
    decode_share: float = 0.0
    tokens_per_second: float = 0.0
    ttft: Percentiles | None = None
    tpot: Percentiles | None = None
    slo: SLO | None = None
    slo_attainment: float | None = None
    ended: Mapping[FinishReason, int] = field(default_factory=dict)
    latencies: Mapping[str, HistogramCounts] = field(default_factory=dict)
    programs_compiled: int = 0
    programs_needed: int = 0

    @property
    def blocks_borrowed(self) -> int:
        """Blocks of its quota that were others' at first; negative: that it lends."""
        return self.blocks_quota - self.blocks_entitled


@dataclass(frozen=True, slots=True)
class UnitStatus:
    """The unit's state at one moment.

    Attributes:
        llms: its LLMs.
        blocks_total: head blocks of the pool.
        blocks_free: head blocks that no LLM holds.
        steps: taken so far.
        fairness_gap: max |R_i - R_j| of normalised block use (MuxServe section 3.2).
        busy: share of the last RATE_SECONDS in which steps ran.
    """

    llms: tuple[LLMStatus, ...]
    blocks_total: int
    blocks_free: int
    steps: int
    fairness_gap: float
    busy: float = 0.0


class Unit(Protocol):
    """A group of LLMs that share one mesh and one pool."""

    def submit(self, request: Request, deliver: Deliver) -> None:
        """Take a validated request; its outputs go to `deliver`. Raises RefusedError."""
        ...

    def abort(self, request_id: str) -> None:
        """End a request early; an unknown or finished id is ignored."""
        ...

    def status(self) -> UnitStatus:
        """The state now; safe to call from any thread."""
        ...

    def seconds_since_turn(self, llm: str) -> float:
        """How long ago the loop that runs this LLM last went round; it does so when idle too. Never waits for it."""
        ...
