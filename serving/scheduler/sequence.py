"""One stream of tokens on its way through the scheduler."""

from dataclasses import dataclass, field
from enum import Enum


class SequenceState(Enum):
    """Where a sequence stands."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(slots=True, eq=False)
class Sequence:
    """One completion of a request, as a number of tokens: the scheduler never sees their values.

    The prompt's tokens exist from the start; each scheduled row that samples adds one more, which exists from
    the moment it is scheduled although its value is read from the device later:

        |<------- num_computed ------->|<- to compute: a chunk (prefill), or one token (decode) ->|
        |<-------------------------------- num_tokens ------------------------------------------->|
                                                              |<- unread: scheduled, value not read ->|

    Attributes:
        id: unique in the scheduler.
        llm: the LLM it belongs to.
        prompt_length: tokens of the prompt.
        max_length: tokens at which it ends by itself (prompt + max_tokens, at most the context length).
        arrival: when it was added, in seconds of the caller's clock.
        deadline: when it ends unfinished; None never.
        caller: who sent it; callers wait in turn. None where callers are not told apart.
        order: place in the order of arrival over all LLMs; set by the scheduler.
        turn: place in the queue of its LLM, before its order; set by the queue.
        num_tokens: prompt tokens and the tokens scheduled to be sampled so far.
        num_computed: leading tokens whose keys and values are in the pool, or in a job that was scheduled.
        unread: trailing tokens whose values the caller has not read yet; the scheduler counts up, the caller down.
        capacity: tokens whose keys and values its pages can hold.
        slot: index of its device state among the LLM's running sequences; None while it waits.
        in_flight: whether it is in a job that has not finished.
        preemptions: how often it lost its pages.
    """

    id: int
    llm: str
    prompt_length: int
    max_length: int
    arrival: float
    deadline: float | None = None
    caller: str | None = None
    order: int = field(default=0, init=False)
    turn: int | None = field(default=None, init=False)
    num_tokens: int = field(init=False)
    num_computed: int = field(default=0, init=False)
    unread: int = field(default=0, init=False)
    capacity: int = field(default=0, init=False)
    slot: int | None = field(default=None, init=False)
    state: SequenceState = field(default=SequenceState.WAITING, init=False)
    in_flight: bool = field(default=False, init=False)
    preemptions: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.num_tokens = self.prompt_length

    @property
    def num_uncomputed(self) -> int:
        """Tokens still to run through the model: more than one while it prefills."""
        return self.num_tokens - self.num_computed

    @property
    def is_complete(self) -> bool:
        """Whether every token it may have is scheduled."""
        return self.num_tokens >= self.max_length
