"""`/v1/chat/completions`."""

import time
from collections.abc import Sequence

import msgspec
from aiohttp import web

from muxjax.serving.endpoint import Endpoint
from muxjax.serving.frontends.http.answers import (
    AssistantMessage,
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatDelta,
    Delta,
    Usage,
)
from muxjax.serving.frontends.http.body import read, respond
from muxjax.serving.frontends.http.generation import generate
from muxjax.serving.frontends.http.logprobs import LogprobWriter
from muxjax.serving.frontends.http.middleware import CALLER, REQUEST_ID
from muxjax.serving.frontends.http.requests import ChatRequest
from muxjax.serving.frontends.http.streaming import EventUsage, check_stream_options, stream
from muxjax.serving.frontends.service import Service
from muxjax.serving.request import Output

_DECODER = msgspec.json.Decoder(ChatRequest)


class ChatCompletions:
    """Answers from a `Service`."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[web.RouteDef]:
        """What is answered here."""
        return [web.post("/v1/chat/completions", self.complete)]

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """The next message of a conversation, or n of them, as a whole or as events."""
        body = await read(request, _DECODER)
        check_stream_options(body)
        conversation, endpoint = body.conversation(), self._service.endpoint(body.model)
        async with generate(self._service, body.model, [conversation], body.sampling(), request[CALLER]) as generation:
            form = _Form(f"chatcmpl-{request[REQUEST_ID]}", endpoint, body, generation.num_choices)
            if body.stream:
                return await stream(request, generation, form, body)
            return respond(form.whole(await generation.collect(), generation.usage()))


class _Form:
    """Writes one request's answer."""

    def __init__(self, id_: str, endpoint: Endpoint, body: ChatRequest, num_choices: int) -> None:
        self._id, self._created, self._model = id_, int(time.time()), endpoint.name
        self._logprobs = [LogprobWriter(endpoint.tokenizer) for _ in range(num_choices)]
        self._with_ids = bool(body.return_token_ids)
        self._begun: set[int] = set()

    def event(self, choice: int, output: Output, usage: EventUsage) -> ChatChunk:
        """What one choice gained; the first time, with the role."""
        delta = Delta(content=output.text) if choice in self._begun else Delta(role="assistant", content=output.text)
        self._begun.add(choice)
        news = ChatDelta(
            index=choice,
            delta=delta,
            logprobs=self._logprobs[choice].chat(output),
            finish_reason=output.finish_reason,
            token_ids=output.token_ids if self._with_ids else msgspec.UNSET,
        )
        return self._chunk([news], usage)

    def last_event(self, usage: Usage) -> ChatChunk:
        """The usage alone."""
        return self._chunk([], usage)

    def whole(self, outputs: Sequence[Output], usage: Usage) -> ChatCompletion:
        """All choices."""
        choices = [
            ChatChoice(
                index=choice,
                message=AssistantMessage(output.text),
                logprobs=self._logprobs[choice].chat(output),
                finish_reason=output.finish_reason,
                token_ids=output.token_ids if self._with_ids else msgspec.UNSET,
            )
            for choice, output in enumerate(outputs)
        ]
        return ChatCompletion(id=self._id, created=self._created, model=self._model, choices=choices, usage=usage)

    def _chunk(self, choices: list[ChatDelta], usage: EventUsage) -> ChatChunk:
        return ChatChunk(id=self._id, created=self._created, model=self._model, choices=choices, usage=usage)
