"""The one interface through which frontends see a unit, wherever it runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from muxjax.serving.request import Output, Request

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
    """One LLM's state at one moment; block figures count head blocks of the unit's pool."""

    name: str
    state: str  # "loading", "compiling", "ready" or "failed"
    waiting: int
    running: int
    blocks_used: int
    blocks_quota: int
    preemptions: int
    prompt_tokens: int
    generated_tokens: int
    error: str | None = None


@dataclass(frozen=True, slots=True)
class UnitStatus:
    """The unit's state at one moment."""

    llms: tuple[LLMStatus, ...]
    blocks_total: int
    blocks_free: int
    steps: int
    fairness_gap: float  # max |R_i - R_j| of normalised block use (MuxServe section 3.2)


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
