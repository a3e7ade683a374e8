"""From exceptions to gRPC statuses, with details that clients can act on, and back to words."""

import logging
import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError, Message

from muxjax.serving.errors import InvalidRequest, ModelNotReady, UnknownModel
from muxjax.serving.frontends.access import Forbidden, Unauthenticated
from muxjax.serving.frontends.grpc import error_details_pb2 as details_pb
from muxjax.serving.frontends.request_log import write_refusal
from muxjax.serving.frontends.service import ServerStopping
from muxjax.serving.frontends.stream import ClientTooSlow, DeadlineExceeded
from muxjax.serving.unit import RefusedError

DETAILS_KEY = "grpc-status-details-bin"
RETRY_KEY = "retry-after"

_CODES: Sequence[tuple[type[Exception], grpc.StatusCode]] = (
    (InvalidRequest, grpc.StatusCode.INVALID_ARGUMENT),
    (DecodeError, grpc.StatusCode.INVALID_ARGUMENT),
    (UnknownModel, grpc.StatusCode.NOT_FOUND),
    (ModelNotReady, grpc.StatusCode.UNAVAILABLE),
    (ServerStopping, grpc.StatusCode.UNAVAILABLE),
    (Forbidden, grpc.StatusCode.PERMISSION_DENIED),
    (RefusedError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (ClientTooSlow, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (DeadlineExceeded, grpc.StatusCode.DEADLINE_EXCEEDED),
    (Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Status:
    """What ends a call: its code, its words, and its trailing metadata."""

    code: grpc.StatusCode
    message: str
    metadata: tuple[tuple[str, str | bytes], ...] = ()


def status_of(error: Exception) -> Status:
    """The status of a failed call. What is not the client's doing is logged, and shown as an id only."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return Status(code, str(error), _metadata(error, code))
    reference = secrets.token_hex(4)
    _log.error("request failed, error %s", reference, exc_info=error)
    return Status(grpc.StatusCode.INTERNAL, f"internal error {reference}: the server's log says more")


async def abort[Request, Response](context: grpc.aio.ServicerContext[Request, Response], error: Exception) -> NoReturn:
    """End a call with the status of what went wrong, and a line of the log."""
    write_refusal(error, protocol="grpc")
    status = status_of(error)
    await context.abort(status.code, status.message, status.metadata)


def _metadata(error: Exception, code: grpc.StatusCode) -> tuple[tuple[str, str | bytes], ...]:
    if isinstance(error, InvalidRequest):
        violation = details_pb.BadRequest.FieldViolation(field=error.field, description=error.reason)
        return (_details(code, str(error), "BadRequest", details_pb.BadRequest(field_violations=[violation])),)
    if isinstance(error, RefusedError) and error.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(round(error.retry_after * 1e9))
        details = _details(code, str(error), "RetryInfo", details_pb.RetryInfo(retry_delay=delay))
        return (details, (RETRY_KEY, str(math.ceil(error.retry_after))))
    return ()


def _details(code: grpc.StatusCode, message: str, name: str, detail: Message) -> tuple[str, bytes]:
    packed = any_pb2.Any(type_url=f"type.googleapis.com/google.rpc.{name}", value=detail.SerializeToString())
    status = details_pb.Status(code=code.value[0], message=message, details=[packed])
    return DETAILS_KEY, status.SerializeToString()
