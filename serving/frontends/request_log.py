"""One line of the log for every request that ends: never its prompt, its text, or a key."""

import logging
import time
from contextvars import ContextVar
from dataclasses import dataclass, field

from muxjax.serving.errors import InvalidRequest
from muxjax.serving.frontends.stream import Stream

_SHOWN = 128  # characters of what a client sent

_log = logging.getLogger("muxjax.requests")
_told: ContextVar[BaseException | None] = ContextVar("told", default=None)
"""What ended the request that was written last."""


@dataclass(slots=True)
class RequestRecord:
    """What the log says of a request, filled in on its way.

    Attributes:
        model: as the client wrote it.
        key: the caller's name.
        client_id: what the client calls the request; None if it does not say.
        stream: its outputs, once it was taken.
    """

    model: str
    key: str
    client_id: str | None = None
    stream: Stream | None = None
    _started: float = field(default_factory=time.monotonic)

    def write(self, error: BaseException | None) -> None:
        """The request has ended: by itself, or with an error."""
        stream, now = self.stream, time.monotonic()
        fields: dict[str, object] = {
            "request": stream.request.id if stream is not None else None,
            "client_id": self.client_id,
            "model": self.model[:_SHOWN],
            "key": self.key,
            "reason": _reason(stream, error),
            "seconds": round(now - self._started, 6),
        }
        if isinstance(error, InvalidRequest):
            fields["field"] = error.field[:_SHOWN]
        if stream is not None:
            fields["prompt_tokens"] = len(stream.request.prompt_token_ids)
            fields["completion_tokens"] = stream.completion_tokens
            if stream.first_output is not None:
                fields["ttft"] = round(stream.first_output - self._started, 6)
        present = {name: value for name, value in fields.items() if value is not None}
        _log.info("request ended", extra={"fields": present})
        _told.set(error)


def write_refusal(error: Exception, **place: str) -> None:
    """A request has ended before it came to a model; nothing is written of an error that a `RequestRecord` told.

    Args:
        error: what ended it; its words, which may be the client's, are not written.
        place: what else is known of the request.
    """
    if _told.get() is error:
        return
    fields = {name: value[:_SHOWN] for name, value in place.items()} | {"reason": type(error).__name__}
    if isinstance(error, InvalidRequest):
        fields["field"] = error.field[:_SHOWN]
    _log.info("request refused", extra={"fields": fields})


def _reason(stream: Stream | None, error: BaseException | None) -> str:
    """A finish reason, the kind of error, or "abandoned" by the client."""
    if isinstance(error, Exception):
        return type(error).__name__
    if stream is None or not stream.is_finished:
        return "abandoned"
    return "+".join(sorted(set(stream.finish_reasons)))
