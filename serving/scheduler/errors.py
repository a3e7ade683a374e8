"""Why the scheduler does not take a sequence."""


class QueueFullError(Exception):
    """There is no place for so many more waiting sequences: of the LLM, of the unit, or of their caller.

    Attributes:
        llm: the LLM.
        retry_after: seconds in which its queue empties at its recent pace.
    """

    def __init__(self, llm: str, reason: str, retry_after: float) -> None:
        super().__init__(f"{reason}; try again in {retry_after:.0f} s")
        self.llm = llm
        self.retry_after = retry_after


class NeverFitsError(Exception):
    """The sequence would not fit even if it were alone."""
