"""`/openapi.json`: what is served, described from the very types that requests are read into and answers made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import msgspec
from aiohttp import web

from muxjax.serving.frontends.http.answers import ChatChunk, ChatCompletion, Completion
from muxjax.serving.frontends.http.body import JSON, respond
from muxjax.serving.frontends.http.errors import CLIENT_CLOSED_REQUEST, ErrorBody
from muxjax.serving.frontends.http.models import Model, ModelList
from muxjax.serving.frontends.http.probes import Health, Version
from muxjax.serving.frontends.http.requests import ChatRequest, CompletionRequest
from muxjax.serving.frontends.http.tokens import (
    DetokenizeRequest,
    DetokenizeResponse,
    TokenizeRequest,
    TokenizeResponse,
)

_REFERENCE = "#/components/schemas/{name}"
_ALWAYS = (400, 401, 500)
_MODEL = (403, 404, 503)
_BODY = (408, 413, 415)
_GENERATES = (429, CLIENT_CLOSED_REQUEST, 504)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path.

    Attributes:
        method: in lower case.
        path: with its parameters in braces.
        summary: a line about it.
        answer: the type of its 200.
        body: the type of what is sent; None for nothing.
        event: the type of each event, where it can stream.
        errors: the statuses of OpenAI's error object.
        needs_key: whether it asks for an API key, if the server does.
        also: other statuses, and the types of their answers.
    """

    method: str
    path: str
    summary: str
    answer: type[msgspec.Struct]
    body: type[msgspec.Struct] | None = None
    event: type[msgspec.Struct] | None = None
    errors: tuple[int, ...] = _ALWAYS
    needs_key: bool = True
    also: tuple[tuple[int, type[msgspec.Struct]], ...] = ()


_ASKS = (*_ALWAYS, *_MODEL, *_BODY)
OPERATIONS: Sequence[Operation] = (
    Operation(
        "post", "/v1/completions", "Complete one or several prompts.", Completion,
        body=CompletionRequest, event=Completion, errors=(*_ASKS, *_GENERATES),
    ),
    Operation(
        "post", "/v1/chat/completions", "Write the next message of a conversation.", ChatCompletion,
        body=ChatRequest, event=ChatChunk, errors=(*_ASKS, *_GENERATES),
    ),
    Operation("get", "/v1/models", "The models that can be asked now.", ModelList),
    Operation("get", "/v1/models/{model}", "One model.", Model, errors=(*_ALWAYS, *_MODEL)),
    Operation("post", "/tokenize", "Text to token ids.", TokenizeResponse, body=TokenizeRequest, errors=_ASKS),
    Operation("post", "/detokenize", "Token ids to text.", DetokenizeResponse, body=DetokenizeRequest, errors=_ASKS),
    Operation(
        "get", "/health", "Whether requests are taken.", Health,
        errors=(), needs_key=False, also=((HTTPStatus.SERVICE_UNAVAILABLE, Health),),
    ),
    Operation("get", "/version", "The server's version.", Version, errors=(), needs_key=False),
)  # fmt: skip


class OpenApi:
    """Answers with the description."""

    def __init__(self) -> None:
        self._description = description()

    def routes(self) -> list[web.RouteDef]:
        """What is answered here."""
        return [web.get("/openapi.json", self.describe)]

    async def describe(self, request: web.Request) -> web.Response:
        """The whole description."""
        return respond(self._description)


def description() -> Mapping[str, Any]:
    """The OpenAPI 3.1 document."""
    types = {type_ for operation in OPERATIONS for type_ in _types(operation)}
    by_name = sorted(types, key=lambda type_: type_.__name__)
    _, schemas = msgspec.json.schema_components(by_name, ref_template=_REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "muxjax", "version": version("muxjax")},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }


def _types(operation: Operation) -> list[type[msgspec.Struct]]:
    named = (operation.answer, operation.body, operation.event, *(answer for _, answer in operation.also))
    return [type_ for type_ in (ErrorBody, *named) if type_ is not None]


def _described(operation: Operation) -> dict[str, Any]:
    answer = {JSON: {"schema": _reference(operation.answer)}}
    if operation.event is not None:
        answer["text/event-stream"] = {"schema": {"type": "string"}}
    events = f" With `stream` as events, each a {operation.event.__name__}." if operation.event else ""
    responses = {"200": {"description": f"{operation.answer.__name__}.{events}", "content": answer}}
    errors: Mapping[int, type[msgspec.Struct]] = dict.fromkeys(operation.errors, ErrorBody) | dict(operation.also)
    for status, type_ in errors.items():
        responses[str(status)] = {
            "description": "The client left." if status == CLIENT_CLOSED_REQUEST else HTTPStatus(status).phrase,
            "content": {JSON: {"schema": _reference(type_)}},
        }
    described: dict[str, Any] = {"summary": operation.summary, "responses": responses}
    if operation.needs_key:
        described["security"] = [{"key": []}, {}]
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": {JSON: {"schema": _reference(operation.body)}}}
    if "{model}" in operation.path:
        described["parameters"] = [{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}]
    return described


def _reference(type_: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(name=type_.__name__)}
