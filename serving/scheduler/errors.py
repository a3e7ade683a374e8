"""Why the scheduler does not take a sequence."""


class QueueFullError(Exception):
    """The LLM's waiting queue has no place for so many more sequences.

    Attributes:
        llm: the LLM.
        retry_after: seconds in which the queue empties at its recent pace.
    """

    def __init__(self, llm: str, max_waiting: int, retry_after: float) -> None:
        super().__init__(
            f"the queue of LLM {llm!r} is full ({max_waiting} sequences wait); try again in {retry_after:.0f} s"
        )
        self.llm = llm
        self.retry_after = retry_after


class NeverFitsError(Exception):
    """The sequence would not fit even if it were alone."""
