"""How long a write may wait for a client that does not read."""

import asyncio
from collections.abc import Awaitable

from muxjax.serving.frontends.stream import ClientTooSlow

STALL_SECONDS = 60.0
"""How long one write may wait before its request is aborted."""


class Patience:
    """Bounds how long each write of one call waits; one write at a time, and `close` after the last one.

    One timer serves them all: it looks how long the write that waits just then has waited. A timer for each write costs
    a sixth of what sending a token does.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(seconds, self._look)
        self._writer: asyncio.Task[object] | None = None
        self._since = 0.0
        self._is_over = False

    async def write(self, writing: Awaitable[object]) -> None:
        """Wait for a write. Raises ClientTooSlow if it takes too long."""
        self._writer, self._since = asyncio.current_task(), self._loop.time()
        cancelled_before = self._writer.cancelling() if self._writer else 0
        try:
            await writing
        except asyncio.CancelledError:
            if self._is_over and self._writer and self._writer.uncancel() <= cancelled_before:
                raise ClientTooSlow(f"nothing was read for {self._seconds:g} s") from None
            raise
        finally:
            self._writer = None

    def close(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _look(self) -> None:
        """End the write that waits, or look again when it, or one that begins now, has waited for as long as it may."""
        now = self._loop.time()
        left = self._seconds if self._writer is None else self._since + self._seconds - now
        if self._writer is not None and left <= 0:
            self._is_over = True
            self._writer.cancel()
        else:
            self._timer = self._loop.call_at(now + left, self._look)
