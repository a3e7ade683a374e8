"""A generation as it comes: one event for each choice that has news, all of a step in one write."""

import contextlib
from typing import Protocol

import msgspec
from aiohttp import web

from muxjax.serving.errors import InvalidRequest
from muxjax.serving.frontends.http.answers import Usage
from muxjax.serving.frontends.http.events import EventStream
from muxjax.serving.frontends.http.generation import Generation
from muxjax.serving.frontends.http.requests import GenerationRequest
from muxjax.serving.request import Output

type EventUsage = Usage | msgspec.UnsetType | None


class Form(Protocol):
    """How events are written: as completions, or as chat completions."""

    def event(self, choice: int, output: Output, usage: EventUsage) -> msgspec.Struct:
        """What one choice gained."""
        ...

    def last_event(self, usage: Usage) -> msgspec.Struct:
        """The usage alone."""
        ...


def check_stream_options(body: GenerationRequest) -> None:
    """Raises InvalidRequest where there are some, but no stream."""
    if body.stream_options is not None and not body.stream:
        raise InvalidRequest("stream_options", "needs stream: true")


async def stream(
    request: web.Request, generation: Generation, form: Form, body: GenerationRequest
) -> web.StreamResponse:
    """Answer with events; what fails before the first one is raised, what fails later is an event."""
    options = body.stream_options
    has_last = options is not None and bool(options.include_usage)
    continuous = options is not None and bool(options.continuous_usage_stats)
    with contextlib.closing(EventStream(request)) as events:
        try:
            async for outputs in generation:
                usage = generation.usage() if continuous else None if has_last else msgspec.UNSET
                await events.write([form.event(choice, output, usage) for choice, output in outputs])
            if has_last:
                await events.write([form.last_event(generation.usage())])
            return await events.finish()
        except Exception as error:
            return await events.fail(error)
