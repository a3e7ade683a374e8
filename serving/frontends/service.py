"""What all frontends share: models by name, requests in, streams out. It lives in one asyncio loop."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial

from muxjax.serving.endpoint import Chat, Endpoint, Prompt, characters
from muxjax.serving.errors import ModelNotReady, RequestError, UnknownModel
from muxjax.serving.frontends.access import ANYONE, Caller
from muxjax.serving.frontends.request_log import RequestRecord
from muxjax.serving.frontends.stream import ClientTooSlow, Stream
from muxjax.serving.progress import LLMState, Progress
from muxjax.serving.request import Output
from muxjax.serving.scheduler.places import has_place
from muxjax.serving.unit import RefusedError, Unit, UnitStatus
from muxjax.serving.validation import validate

_LONG_PROMPT = 8_192  # characters; longer ones are tokenised in a thread, so that the loop goes on
_RETRY_SECONDS = 1.0

_log = logging.getLogger(__name__)


class ServerStopping(RequestError):
    """The server takes no more requests."""


class Service:
    """The served LLMs, as every frontend sees them.

    Construct it in the event loop that the frontends run in; every method is called there. The unit's outputs come
    over from its own thread once per step, all streams' together.

    Args:
        unit: takes the requests.
        models: the names of the LLMs, in the order that clients see.
        max_requests: how many may run or wait at a time.
        request_timeout: seconds after which a request without an earlier deadline ends; None never.
    """

    def __init__(
        self, unit: Unit, models: Sequence[str], *, max_requests: int = 256, request_timeout: float | None = None
    ) -> None:
        self._unit = unit
        self._progress = {name: Progress(name, LLMState.LOADING) for name in models}
        self._max_requests = max_requests
        self._request_timeout = request_timeout
        self._streams: dict[str, Stream] = {}
        self._loop = asyncio.get_running_loop()
        self._stopping = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def num_requests(self) -> int:
        """Requests that run or wait now."""
        return len(self._streams)

    @property
    def is_stopping(self) -> bool:
        """Whether new requests are refused, because the server is about to end."""
        return self._stopping

    def update(self, progress: Progress) -> None:
        """Take the news of one LLM; it is served from the moment that it is ready."""
        if progress.state is LLMState.UNLOADED:
            self._progress.pop(progress.llm, None)
            return
        self._progress[progress.llm] = progress
        if progress.state is LLMState.STALLED:
            for stream in self._streams.values():
                if stream.request.llm == progress.llm:
                    stream.fail(ModelNotReady(f"model {progress.llm!r} is stalled: {progress.error}"))

    def models(self) -> list[Progress]:
        """Where each LLM stands, in the order of the configuration."""
        return list(self._progress.values())

    def endpoint(self, name: str) -> Endpoint:
        """A ready LLM. Raises UnknownModel, ModelNotReady."""
        progress = self._progress.get(name)
        if progress is None:
            raise UnknownModel(name, self._progress.keys())
        if progress.endpoint is None or progress.state is not LLMState.READY:
            why = f": {progress.error}" if progress.error else ": try again soon"
            raise ModelNotReady(f"model {name!r} is not ready ({progress.state}){why}")
        return progress.endpoint

    def status(self) -> UnitStatus:
        """The unit's state now."""
        return self._unit.status()

    @contextlib.asynccontextmanager
    async def generate(
        self,
        model: str,
        prompt: Prompt,
        sampling: Mapping[str, object],
        *,
        caller: Caller,
        timeout: float | None = None,
        client_id: str | None = None,
    ) -> AsyncIterator[Stream]:
        """The stream of one request; leaving the block early, for whatever reason, aborts the request.

        Args:
            model: the LLM's name.
            prompt: text, a conversation, or token ids.
            sampling: fields of `SamplingParams`, as the client sent them.
            caller: who sent it, and pays for it.
            timeout: seconds from now after which the request ends; None leaves it to the server's own limit.
            client_id: what the client calls the request, for the log.

        Raises:
            InvalidRequest, UnknownModel, ModelNotReady, Forbidden, ServerStopping, RefusedError.
        """
        record = RequestRecord(model, caller.name, client_id)
        ending: BaseException | None = None
        try:
            async with self._stream(model, prompt, sampling, caller, timeout) as stream:
                record.stream = stream
                yield stream
        except BaseException as error:
            ending = error
            raise
        finally:
            record.write(ending)

    @contextlib.asynccontextmanager
    async def _stream(
        self, model: str, prompt: Prompt, sampling: Mapping[str, object], caller: Caller, timeout: float | None
    ) -> AsyncIterator[Stream]:
        started = time.monotonic()
        endpoint = self.endpoint(model)
        caller.check_model(model)
        token_ids = await encode(endpoint, prompt)
        limits = [seconds for seconds in (timeout, self._request_timeout) if seconds is not None]
        deadline = started + min(limits) if limits else None
        name = None if caller is ANYONE else caller.name
        stream = Stream(validate(endpoint, token_ids, sampling, deadline=deadline, caller=name))
        self._admit(stream)
        try:
            caller.limits.take_request(len(token_ids))
            self._unit.submit(stream.request, self._deliver)
            yield stream
        finally:
            caller.limits.take_tokens(stream.completion_tokens)
            self._forget(stream)

    async def drain(self, seconds: float) -> None:
        """Refuse requests from now on, let those that run finish for so long, then end the rest."""
        self._stopping = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        self.close()

    def close(self) -> None:
        """End every request now."""
        self._stopping = True
        for stream in self._streams.values():
            stream.fail(ServerStopping("the server stopped before the request was finished"))

    def _admit(self, stream: Stream) -> None:
        if self._stopping:
            raise ServerStopping("the server is stopping: send the request elsewhere, or later")
        taken, caller = len(self._streams), stream.request.caller
        if not has_place(self._max_requests, taken, partial(self._requests_of, caller) if caller is not None else None):
            most = f"{self._max_requests}, the most at a time"
            share = "" if taken == self._max_requests else ", and no key may have more than are left"
            raise RefusedError(f"{taken} requests are being served of {most}{share}", _RETRY_SECONDS)
        self._streams[stream.request.id] = stream
        self._idle.clear()

    def _requests_of(self, caller: str) -> int:
        return sum(stream.request.caller == caller for stream in self._streams.values())

    def _forget(self, stream: Stream) -> None:
        del self._streams[stream.request.id]
        if not self._streams:
            self._idle.set()
        if not stream.is_finished:
            self._unit.abort(stream.request.id)

    def _deliver(self, outputs: Sequence[Output]) -> None:
        """Called by the unit's thread: one hop into the loop for a whole step."""
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody is left to read
            self._loop.call_soon_threadsafe(self._dispatch, outputs)

    def _dispatch(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            stream = self._streams.get(output.request_id)  # None: its client left already
            if stream is None:
                continue
            try:
                stream.push(output)
            except ClientTooSlow as error:
                _log.warning("aborting request %s: %s", output.request_id, error)
                self._unit.abort(output.request_id)


async def encode(endpoint: Endpoint, prompt: Prompt) -> Sequence[int]:
    """The prompt's token ids; long text is encoded in a thread, so that the loop goes on. Raises InvalidRequest.

    So is every conversation: its template may take seconds, however short it is.
    """
    if isinstance(prompt, Chat) or (isinstance(prompt, str) and characters(prompt) > _LONG_PROMPT):
        return await asyncio.to_thread(endpoint.encode, prompt)
    return endpoint.encode(prompt)
