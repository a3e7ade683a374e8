"""What a unit tells about an LLM on its way from a source to being served."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from muxjax.serving.endpoint import Endpoint


class LLMState(StrEnum):
    """Where an LLM stands; it takes requests when it is READY."""

    LOADING = "loading"
    COMPILING = "compiling"
    READY = "ready"
    FAILED = "failed"
    STALLED = "stalled"  # its unit does not respond
    DRAINING = "draining"  # what runs finishes, nothing new is taken
    UNLOADED = "unloaded"  # it is none of this server's any more


@dataclass(frozen=True, slots=True)
class Progress:
    """One LLM's news.

    Attributes:
        llm: the served LLM's name.
        state: what it is doing now.
        done: programs compiled so far.
        total: programs to compile before it is served.
        seconds: since its loading began.
        endpoint: what frontends need to serve it; set when it is READY.
        error: what went wrong and what to do; set when it FAILED or is STALLED.
    """

    llm: str
    state: LLMState
    done: int = 0
    total: int = 0
    seconds: float = 0.0
    endpoint: Endpoint | None = None
    error: str | None = None


Report = Callable[[Progress], None]
"""Called from the unit's own thread; must return at once."""
