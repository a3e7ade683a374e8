"""Stop strings in streamed text."""


class StopStrings:
    """Finds the first stop string in text that comes piece by piece.

    Text that may still turn into a stop string is held back, so that none of it is ever shown:

        StopStrings(("END",)):  push("the E") -> "the ",  push("N") -> "",  push("E") -> "EN"
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""

    def push(self, text: str, *, can_stop: bool = True) -> tuple[str, bool]:
        """Take more text. Returns the text to show, and whether a stop string ended it.

        Where `can_stop` is false (min_tokens is not reached), stop strings that are complete are let through.
        """
        if not self._stops:
            return text, False
        pending = self._held + text
        if can_stop:
            starts = [start for stop in self._stops if (start := pending.find(stop)) >= 0]
            if starts:
                self._held = ""
                return pending[: min(starts)], True
        shown = len(pending) - max(_overlap(pending, stop) for stop in self._stops)
        self._held = pending[shown:]
        return pending[:shown], False

    def flush(self) -> str:
        """The text still held back, when no more is to come."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` are a beginning, but not the whole, of `stop`."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
