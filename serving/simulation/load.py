"""A job as plants see it."""

from dataclasses import dataclass

from muxjax.serving.scheduler.job import JobKind


@dataclass(frozen=True, slots=True)
class Load:
    """A prefill, or a decode that may go on for several steps.

    Attributes:
        llm: the LLM.
        kind: prefill or decode.
        sequences: how many.
        tokens: of each on average: those that a prefill computes, or the context of the first decode step; each
            further step has one more.
    """

    llm: str
    kind: JobKind
    sequences: int
    tokens: float
