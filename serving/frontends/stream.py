"""One request's outputs on their way from the unit to its client."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

import msgspec

from muxjax.serving.errors import RequestError
from muxjax.serving.request import FinishReason, Output, Request

MAX_UNREAD = 131_072
"""Tokens, each counted again for every top logprob, that may wait for a client before its request is aborted."""


class ClientTooSlow(RequestError):
    """The client leaves more unread than the server is willing to hold for it."""


class DeadlineExceeded(RequestError):
    """The request's time ran out before it was finished."""


class RequestFailed(RequestError):
    """The unit could not go on with the request; the message is for the log, not for the client."""


class Stream:
    """The outputs of one request, merged while they wait: a client that lags gets several tokens in one message.

    Iterating gives what is new, at most one Output per completion, until all completions are finished. It belongs to
    the event loop: `push` and iteration run there.

    Attributes:
        request: the request.
        completion_tokens: tokens of all completions so far.
        first_output: when the first output came, of `time.monotonic`; None before it.
        finish_reasons: of the completions that have ended.
    """

    def __init__(self, request: Request, max_unread: int = MAX_UNREAD) -> None:
        self.request = request
        self.completion_tokens = 0
        self.first_output: float | None = None
        self.finish_reasons: list[FinishReason] = []
        self._unfinished = request.sampling.n
        self._max_unread = max_unread
        self._unread = 0
        self._waiting: dict[int, list[Output]] = {}  # by completion
        self._error: RequestError | None = None
        self._news = asyncio.Event()

    @property
    def is_finished(self) -> bool:
        """Whether the unit is done with the request: nothing more will be pushed."""
        return self._unfinished == 0

    @property
    def is_read(self) -> bool:
        """Whether the client has all of it."""
        return self.is_finished and not self._waiting

    def push(self, output: Output) -> None:
        """Add what the unit delivered. Raises ClientTooSlow, once: the caller aborts the request."""
        if self._error is not None:
            return
        if self.first_output is None:
            self.first_output = time.monotonic()
        self.completion_tokens += len(output.token_ids)
        self._unread += len(output.token_ids)
        if output.logprobs:
            self._unread += sum(len(entry.top_ids) for entry in output.logprobs)
        if output.finish_reason is not None:
            output = self._finish(output, output.finish_reason)
        if output.index in self._waiting:
            self._waiting[output.index].append(output)
        else:
            self._waiting[output.index] = [output]
        self._news.set()
        if self._unread > self._max_unread:
            self._waiting.clear()
            error = ClientTooSlow(f"more than {self._max_unread} tokens wait to be read: read faster")
            self.fail(error)
            raise error

    def fail(self, error: RequestError) -> None:
        """End the stream with an error, after what is already there."""
        self._error = self._error or error
        self._news.set()

    def _finish(self, output: Output, reason: FinishReason) -> Output:
        """Note a completion's end. Returns what the client sees of it, which is told of a failure by an error."""
        self._unfinished -= 1
        self.finish_reasons.append(reason)
        if reason is FinishReason.ERROR:
            self.fail(RequestFailed(output.error or "the unit gave no reason"))
        elif reason is FinishReason.DEADLINE:
            self.fail(DeadlineExceeded("the request's time ran out"))
        else:
            return output
        return msgspec.structs.replace(output, finish_reason=None, error=None)

    async def __aiter__(self) -> AsyncIterator[list[Output]]:
        """What is new, as it comes; what came before an error is given before it is raised.

        Raises:
            ClientTooSlow, DeadlineExceeded, RequestFailed.
        """
        while True:
            if outputs := self._take():
                yield outputs  # more may come meanwhile, and an error behind it
            elif self._error is not None:
                raise self._error
            elif self.is_finished:
                return
            else:
                await self._news.wait()

    def _take(self) -> list[Output]:
        """The merged outputs that wait."""
        waiting, self._waiting, self._unread = self._waiting, {}, 0
        self._news.clear()
        return [outputs[0] if len(outputs) == 1 else join(outputs) for outputs in waiting.values()]


def join(outputs: Sequence[Output]) -> Output:
    """One completion's outputs as one."""
    last = outputs[-1]
    return Output(
        request_id=last.request_id,
        index=last.index,
        token_ids=tuple(token for output in outputs for token in output.token_ids),
        text="".join(output.text for output in outputs),
        logprobs=tuple(entry for output in outputs for entry in output.logprobs),
        finish_reason=last.finish_reason,
    )
