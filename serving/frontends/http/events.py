"""Server-sent events, as OpenAI's clients read them."""

import logging
from collections.abc import Sequence

import msgspec
from aiohttp import web

from muxjax.serving.frontends.http.errors import failure_of
from muxjax.serving.frontends.patience import STALL_SECONDS, Patience
from muxjax.serving.frontends.stream import ClientTooSlow

_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # proxies: pass each event on as it comes
}
_ENCODER = msgspec.json.Encoder()

_log = logging.getLogger(__name__)


class EventStream:
    """A response of events. It begins with the first write: what fails before that has an HTTP status of its own.

    `close` it, whatever becomes of it.
    """

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._response = web.StreamResponse(headers=_HEADERS)
        self._patience = Patience(STALL_SECONDS)

    async def write(self, events: Sequence[msgspec.Struct]) -> None:
        """Send events, all at once. Raises ClientTooSlow where nothing was read for long."""
        await self._send(b"".join([b"data: %b\n\n" % _ENCODER.encode(event) for event in events]))

    async def finish(self) -> web.StreamResponse:
        """Say that all is told."""
        await self._send(b"data: [DONE]\n\n")
        await self._response.write_eof()
        return self._response

    async def fail(self, error: Exception) -> web.StreamResponse:
        """End with an error event, where the stream has begun; raises the error where it has not."""
        if not self._response.prepared:
            raise error
        try:
            if isinstance(error, ClientTooSlow):  # who does not read, reads no error either
                raise error
            await self._send(b"data: %b\n\n" % _ENCODER.encode(failure_of(error).body))
            await self._response.write_eof()
        except ClientTooSlow:
            _log.warning("closing a connection: %s", error)
            if self._request.transport is not None:
                self._request.transport.abort()
        return self._response

    async def _send(self, data: bytes) -> None:
        if not self._response.prepared:
            await self._response.prepare(self._request)
        await self._patience.write(self._response.write(data))

    def close(self) -> None:
        """Nothing more is sent."""
        self._patience.close()
