"""What the scheduler hands to an executor."""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from muxjax.serving.scheduler.sequence import Sequence

MIN_CHUNK_TOKENS = 16
"""A prefill chunk of fewer tokens takes hardly less time or memory."""


class JobKind(Enum):
    """The two phases of generation, by what bounds them: prefill by compute, decode by memory bandwidth."""

    PREFILL = "prefill"
    DECODE = "decode"


class Chunk(NamedTuple):
    """Tokens start .. start + length of one sequence; if `samples`, the last row's logits give its next token.

    A named tuple, since one is made for every running sequence and step: it takes a third of a frozen dataclass's time.
    """

    sequence: Sequence
    start: int
    length: int
    samples: bool


@dataclass(frozen=True, slots=True)
class Job:
    """One LLM's prefill chunk or decode batch."""

    llm: str
    kind: JobKind
    chunks: tuple[Chunk, ...]

    @property
    def num_tokens(self) -> int:
        """Rows that run through the model."""
        return sum(chunk.length for chunk in self.chunks)


@dataclass(frozen=True, slots=True)
class Step:
    """The jobs that start together: at most one prefill, any number of decodes, at most one of each for an LLM.

    Attributes:
        jobs: at least one.
        preempted: the sequences that lost their pages and slots since the last step; they wait again.
    """

    jobs: tuple[Job, ...]
    preempted: tuple[Sequence, ...] = ()
