"""From exceptions to OpenAI's error object with the right HTTP status."""

import logging
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

import msgspec
from aiohttp import web

from muxjax.serving.errors import InvalidRequest, ModelNotReady, UnknownModel
from muxjax.serving.frontends.access import Forbidden, Unauthenticated
from muxjax.serving.frontends.rate_limit import RateLimited
from muxjax.serving.frontends.service import ServerStopping
from muxjax.serving.frontends.stream import ClientTooSlow, DeadlineExceeded
from muxjax.serving.unit import RefusedError

_RETRY_SECONDS = 5.0  # where nobody knows better when a model is ready
CLIENT_CLOSED_REQUEST = 499  # as nginx has it: nobody reads any more

_log = logging.getLogger(__name__)


class ErrorDetail(msgspec.Struct, frozen=True):
    """What is wrong; `param` is the field at fault, `code` a word for programs."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(msgspec.Struct, frozen=True):
    """OpenAI's error object, the body of every response that is not a success, and of an event that ends a stream."""

    error: ErrorDetail


@dataclass(frozen=True, slots=True)
class Failure:
    """How a request ends that could not be served."""

    status: int
    body: ErrorBody
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self) -> web.Response:
        """The whole response."""
        return web.Response(
            status=self.status,
            body=msgspec.json.encode(self.body),
            content_type="application/json",
            headers=self.headers,
        )


# Exception, status, type, code; the first that fits counts.
_KINDS: Sequence[tuple[type[Exception], int, str, str]] = (
    (InvalidRequest, HTTPStatus.BAD_REQUEST, "invalid_request_error", "invalid_value"),
    (Unauthenticated, HTTPStatus.UNAUTHORIZED, "authentication_error", "invalid_api_key"),
    (Forbidden, HTTPStatus.FORBIDDEN, "permission_error", "model_not_allowed"),
    (UnknownModel, HTTPStatus.NOT_FOUND, "invalid_request_error", "model_not_found"),
    (ModelNotReady, HTTPStatus.SERVICE_UNAVAILABLE, "service_unavailable_error", "model_not_ready"),
    (ServerStopping, HTTPStatus.SERVICE_UNAVAILABLE, "service_unavailable_error", "server_stopping"),
    (RateLimited, HTTPStatus.TOO_MANY_REQUESTS, "rate_limit_error", "rate_limit_exceeded"),
    (RefusedError, HTTPStatus.TOO_MANY_REQUESTS, "rate_limit_error", "server_busy"),
    (ClientTooSlow, CLIENT_CLOSED_REQUEST, "invalid_request_error", "client_too_slow"),
    (DeadlineExceeded, HTTPStatus.GATEWAY_TIMEOUT, "timeout_error", "deadline_exceeded"),
)


def failure_of(error: Exception) -> Failure:
    """How the exception is told. What is not the client's doing is logged, and shown as an id only."""
    if isinstance(error, web.HTTPException):
        return _of_http(error)
    for kind, status, type_, code in _KINDS:
        if isinstance(error, kind):
            param = error.field if isinstance(error, InvalidRequest) else None
            return Failure(status, ErrorBody(ErrorDetail(str(error), type_, param, code)), _headers(error, status))
    reference = secrets.token_hex(4)
    _log.error("request failed, error %s", reference, exc_info=error)
    message = f"internal error {reference}: the server's log says more"
    detail = ErrorDetail(message, "server_error", code="internal_error")
    return Failure(HTTPStatus.INTERNAL_SERVER_ERROR, ErrorBody(detail))


def _of_http(error: web.HTTPException) -> Failure:
    """What aiohttp refuses before a handler sees it: unknown paths, wrong methods, bodies that are too large."""
    headers: dict[str, str] = {}
    match error:
        case web.HTTPNotFound():
            message = "nothing is served at this path: /openapi.json lists what is"
        case web.HTTPMethodNotAllowed():
            headers["Allow"] = ", ".join(sorted(error.allowed_methods))
            message = f"this path is not for {error.method}: use {headers['Allow']}"
        case _:
            message = error.text or error.reason
    code = HTTPStatus(error.status).name.lower()
    return Failure(error.status, ErrorBody(ErrorDetail(message, "invalid_request_error", code=code)), headers)


def _headers(error: Exception, status: int) -> Mapping[str, str]:
    if isinstance(error, RefusedError) and error.retry_after is not None:
        return {"Retry-After": str(math.ceil(error.retry_after))}
    if status == HTTPStatus.UNAUTHORIZED:
        return {"WWW-Authenticate": "Bearer"}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return {"Retry-After": str(math.ceil(_RETRY_SECONDS))}
    return {}
