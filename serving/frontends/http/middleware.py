"""What happens to every HTTP request before and after its handler."""

import asyncio
import re
import secrets

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from muxjax.serving.frontends.access import AccessControl, Caller
from muxjax.serving.frontends.http.errors import failure_of
from muxjax.serving.frontends.request_log import write_refusal
from muxjax.serving.frontends.ui import files

REQUEST_ID_HEADER = "X-Request-Id"
OPEN_PATHS = frozenset({"/health", "/version", *files.PATHS})
"""What needs no key: what orchestrators probe, and the empty page. Everything else does, whether it exists or not."""
CALLER = web.RequestKey("caller", Caller)
"""Who sent the request; there is none on open paths."""

REQUEST_ID = web.RequestKey("request_id", str)
"""The id that its logs and its answer have."""
_ID_FORM = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


@web.middleware
async def name_requests(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request the id that its client sent, if that can stand in a log, else one of our own."""
    sent = request.headers.get(REQUEST_ID_HEADER, "")
    request[REQUEST_ID] = sent if _ID_FORM.fullmatch(sent) else secrets.token_hex(16)
    return await handler(request)


async def echo_request_id(request: web.Request, response: web.StreamResponse) -> None:
    """Put the request's id on its response; streams too, which are on their way before their handler returns."""
    if REQUEST_ID in request:
        response.headers[REQUEST_ID_HEADER] = request[REQUEST_ID]


@web.middleware
async def tell_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every exception becomes OpenAI's error object, and a line of the log."""
    try:
        return await handler(request)
    except (asyncio.CancelledError, ConnectionError):  # the client left: nobody to tell
        raise
    except Exception as error:
        write_refusal(error, request=request[REQUEST_ID], path=request.path)
        return failure_of(error).response()


def ask_for_key(access: AccessControl) -> Middleware:
    """Lets requests through whose `Authorization` header holds a key; handlers find their CALLER."""

    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path not in OPEN_PATHS:
            request[CALLER] = access.authenticate(request.headers.get("Authorization"))
        return await handler(request)

    return authenticate
