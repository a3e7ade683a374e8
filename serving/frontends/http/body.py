"""JSON out of requests and into responses, strictly."""

import asyncio
import re
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from muxjax.serving.errors import InvalidRequest

JSON = "application/json"
BODY_SECONDS = 30.0
"""How long a body may take to arrive: who sends it byte by byte is let go."""

_PLACE = re.compile(r"(?P<reason>.*) - at (?:`key` in )?`\$\.?(?P<path>.*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>.*)`")


async def read[T](request: web.Request, decoder: msgspec.json.Decoder[T]) -> T:
    """The body, decoded and of the right types; NaN and numbers beyond a double are no JSON.

    Only bodies that say to be JSON are read, which a page of another origin cannot send unasked.

    Raises:
        InvalidRequest: naming the field that is wrong, or "body".
        web.HTTPException: the body is too large, too slow or of another type.
    """
    if request.content_type != JSON:
        raise web.HTTPUnsupportedMediaType(text=f"send the body as JSON, with the header Content-Type: {JSON}")
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(text=f"the body took longer than {BODY_SECONDS:g} s") from None
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest("body", f"is not JSON: {error}") from error


def respond(value: Any, status: int = HTTPStatus.OK) -> web.Response:
    """The value as JSON."""
    return web.Response(body=msgspec.json.encode(value), status=status, content_type=JSON)


def _invalid(complaint: str) -> InvalidRequest:
    """From words such as "Expected `int`, got `str` - at `$.max_tokens`" to the field and its reason."""
    place = _PLACE.fullmatch(complaint)
    path, reason = (place["path"], place["reason"]) if place else ("", complaint)
    if missing := _MISSING.fullmatch(reason):
        return InvalidRequest(f"{path}.{missing['name']}".removeprefix("."), "is missing: add it")
    return InvalidRequest(path or "body", f"is of the wrong type: {reason}")
