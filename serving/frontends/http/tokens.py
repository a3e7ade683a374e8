"""`/tokenize` and `/detokenize`, as vLLM has them."""

from typing import Any

import msgspec
from aiohttp import web

from muxjax.serving import checks
from muxjax.serving.errors import InvalidRequest
from muxjax.serving.frontends.http.body import read, respond
from muxjax.serving.frontends.http.conversation import Message, Tool, conversation
from muxjax.serving.frontends.http.middleware import CALLER
from muxjax.serving.frontends.service import Service, encode


class TokenizeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /tokenize`: a prompt, or messages."""

    model: str
    prompt: str | None = None
    messages: list[Message] | None = None
    tools: list[Tool] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None


class TokenizeResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The token ids that a completion would go on from."""

    tokens: list[int]
    count: int
    max_model_len: int


class DetokenizeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /detokenize`."""

    model: str
    tokens: list[int]


class DetokenizeResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The text of the tokens, without the special ones."""

    prompt: str


_TOKENIZE = msgspec.json.Decoder(TokenizeRequest)
_DETOKENIZE = msgspec.json.Decoder(DetokenizeRequest)


class Tokens:
    """Answers from a `Service`."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[web.RouteDef]:
        """What is answered here."""
        return [web.post("/tokenize", self.tokenize), web.post("/detokenize", self.detokenize)]

    async def tokenize(self, request: web.Request) -> web.Response:
        """The token ids of a text, or of a conversation."""
        body = await read(request, _TOKENIZE)
        endpoint = self._service.endpoint(body.model)
        request[CALLER].check_model(endpoint.name)
        if (body.prompt is None) == (body.messages is None):
            raise InvalidRequest("prompt", "or messages, and not both: send one of them")
        prompt = conversation(body.messages, body) if body.messages is not None else body.prompt or ""
        tokens = await encode(endpoint, prompt)
        return respond(TokenizeResponse(tokens=list(tokens), count=len(tokens), max_model_len=endpoint.max_context))

    async def detokenize(self, request: web.Request) -> web.Response:
        """The text of token ids."""
        body = await read(request, _DETOKENIZE)
        endpoint = self._service.endpoint(body.model)
        request[CALLER].check_model(endpoint.name)
        if endpoint.tokenizer is None:
            raise InvalidRequest("model", f"{endpoint.name} has no tokenizer")
        tokens = checks.token_ids(
            "tokens", checks.bounded_list("tokens", body.tokens, endpoint.max_context), endpoint.vocab_size
        )
        return respond(DetokenizeResponse(prompt=endpoint.tokenizer.decode(tokens)))
