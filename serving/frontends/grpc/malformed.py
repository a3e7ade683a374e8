"""Refuses bytes that are no message, which gRPC itself would call the server's own fault."""

from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import Any, override

import grpc
from google.protobuf.message import DecodeError

from muxjax.serving.frontends.grpc.errors import abort

type _Details = grpc.HandlerCallDetails
type _Handler = grpc.RpcMethodHandler[Any, Any]


class RefuseMalformed(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in its stubs only
    """Answers calls of one request with INVALID_ARGUMENT where it cannot be parsed; streams see the DecodeError."""

    @override
    async def intercept_service(
        self, continuation: Callable[[_Details], Awaitable[_Handler]], handler_call_details: _Details
    ) -> _Handler:
        """The call's own handler, with a look at its request."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_streaming or handler.request_deserializer is None:
            return handler
        if handler.response_streaming:
            make, behaviour = grpc.unary_stream_rpc_method_handler, handler.unary_stream
        else:
            make, behaviour = grpc.unary_unary_rpc_method_handler, handler.unary_unary
        if not iscoroutinefunction(behaviour):
            return handler
        return make(_checked(behaviour), _parser(handler.request_deserializer), handler.response_serializer)


def _parser(deserializer: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def parse(data: bytes) -> Any:
        try:
            return deserializer(data)
        except DecodeError as error:
            return error

    return parse


def _checked(behaviour: Callable[..., Any]) -> Callable[..., Any]:
    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        if isinstance(request, DecodeError):
            await abort(context, request)
        return await behaviour(request, context)

    return call
