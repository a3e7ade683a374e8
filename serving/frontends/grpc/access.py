"""Asks every gRPC call for its API key, whatever its service."""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, override

import grpc

from muxjax.serving.frontends.access import AccessControl, Caller, Unauthenticated
from muxjax.serving.frontends.grpc.errors import abort

OPEN_METHODS = frozenset(
    {
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/inference.GRPCInferenceService/ServerLive",
        "/inference.GRPCInferenceService/ServerReady",
    }
)
"""What needs no key: what orchestrators probe. Everything else does."""

type _Details = grpc.HandlerCallDetails
type _Handler = grpc.RpcMethodHandler[Any, Any]

_CALLER: ContextVar[Caller] = ContextVar("caller")


def caller() -> Caller:
    """Who sent the call that is being handled."""
    return _CALLER.get()


class AskForKey(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in its stubs only
    """Lets calls through whose `authorization` metadata holds a key; handlers find their `caller()`."""

    def __init__(self, access: AccessControl) -> None:
        self._access = access

    @override
    async def intercept_service(
        self, continuation: Callable[[_Details], Awaitable[_Handler]], handler_call_details: _Details
    ) -> _Handler:
        """The call's own handler, or one that refuses it."""
        if handler_call_details.method in OPEN_METHODS:
            return await continuation(handler_call_details)
        sent = [value for key, value in handler_call_details.invocation_metadata or () if key == "authorization"]
        try:
            _CALLER.set(self._access.authenticate(str(sent[-1]) if sent else None))
        except Unauthenticated as error:
            return _refusal(error)
        return await continuation(handler_call_details)


def _refusal(error: Unauthenticated) -> _Handler:
    async def refuse(messages: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await abort(context, error)

    return grpc.stream_stream_rpc_method_handler(refuse)  # whatever the method's own kind: the client gets its status
