"""`/v1/completions`."""

import time
from collections.abc import Sequence

import msgspec
from aiohttp import web

from muxjax.serving.endpoint import Chat, Endpoint, Prompt
from muxjax.serving.frontends.http.answers import Completion, CompletionChoice, Usage
from muxjax.serving.frontends.http.body import read, respond
from muxjax.serving.frontends.http.generation import generate
from muxjax.serving.frontends.http.logprobs import LogprobWriter
from muxjax.serving.frontends.http.middleware import CALLER, REQUEST_ID
from muxjax.serving.frontends.http.requests import CompletionRequest
from muxjax.serving.frontends.http.streaming import EventUsage, check_stream_options, stream
from muxjax.serving.frontends.service import Service
from muxjax.serving.request import Output

_DECODER = msgspec.json.Decoder(CompletionRequest)


class Completions:
    """Answers from a `Service`."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[web.RouteDef]:
        """What is answered here."""
        return [web.post("/v1/completions", self.complete)]

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """The completions of one or of several prompts, as a whole or as events."""
        body = await read(request, _DECODER)
        check_stream_options(body)
        prompts, endpoint = body.prompts(), self._service.endpoint(body.model)
        async with generate(self._service, body.model, prompts, body.sampling(), request[CALLER]) as generation:
            form = _Form(f"cmpl-{request[REQUEST_ID]}", endpoint, body, prompts, generation.num_choices)
            if body.stream:
                return await stream(request, generation, form, body)
            return respond(form.whole(await generation.collect(), generation.usage()))


class _Form:
    """Writes one request's answer."""

    def __init__(
        self, id_: str, endpoint: Endpoint, body: CompletionRequest, prompts: Sequence[Prompt], num_choices: int
    ) -> None:
        self._id, self._created, self._model = id_, int(time.time()), endpoint.name
        self._logprobs = [LogprobWriter(endpoint.tokenizer) for _ in range(num_choices)]
        self._with_ids = bool(body.return_token_ids) or endpoint.tokenizer is None
        echoes = [_text(endpoint, prompt) if body.echo else "" for prompt in prompts]
        self._echoes = [echo for echo in echoes for _ in range(num_choices // len(prompts))]

    def event(self, choice: int, output: Output, usage: EventUsage) -> Completion:
        """What one choice gained; the first time, after its prompt if that is to be echoed."""
        return self._completion([self._choice(choice, output)], usage)

    def last_event(self, usage: Usage) -> Completion:
        """The usage alone."""
        return self._completion([], usage)

    def whole(self, outputs: Sequence[Output], usage: Usage) -> Completion:
        """All choices."""
        return self._completion([self._choice(choice, output) for choice, output in enumerate(outputs)], usage)

    def _completion(self, choices: list[CompletionChoice], usage: EventUsage) -> Completion:
        return Completion(id=self._id, created=self._created, model=self._model, choices=choices, usage=usage)

    def _choice(self, choice: int, output: Output) -> CompletionChoice:
        echo, self._echoes[choice] = self._echoes[choice], ""
        return CompletionChoice(
            index=choice,
            text=echo + output.text,
            logprobs=self._logprobs[choice].completion(output),
            finish_reason=output.finish_reason,
            token_ids=output.token_ids if self._with_ids else msgspec.UNSET,
        )


def _text(endpoint: Endpoint, prompt: Prompt) -> str:
    """The prompt, as it is echoed."""
    if isinstance(prompt, str):
        return prompt
    return "" if endpoint.tokenizer is None or isinstance(prompt, Chat) else endpoint.tokenizer.decode(prompt)
