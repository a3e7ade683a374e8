"""What can be wrong with a request before the unit takes it; `muxjax.serving.unit.RefusedError` is what comes after."""

import difflib
from collections.abc import Collection


class RequestError(Exception):
    """A request that cannot be served as it is."""


class InvalidRequest(RequestError):
    """A field of the request is wrong.

    Attributes:
        field: the field, in the words of `SamplingParams`, or "prompt" or "model".
        reason: what is wrong with it and what to send instead, as the rest of a sentence about the field.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class UnknownModel(RequestError):
    """The request names an LLM that this server does not have."""

    def __init__(self, model: str, served: Collection[str]) -> None:
        known = ", ".join(served) or "none"
        super().__init__(f"no model {model[:128]!r} here{nearest(model, served)}; the models are: {known}")


class ModelNotReady(RequestError):
    """The LLM is one of this server's, but cannot take requests now: it is still loading, or loading it failed."""


def nearest(word: str, known: Collection[str]) -> str:
    """A hint such as " (did you mean 'top_p'?)", empty when nothing known resembles the word."""
    matches = difflib.get_close_matches(word[:128], list(known), n=1)
    return f" (did you mean {matches[0]!r}?)" if matches else ""
