"""Registers the service with a server, apart from the names that other protobuf code in the process may claim.

`open_inference_pb2.py` keeps its descriptors in a pool of its own (see `make protos`): tritonclient and kserve define
the same package in the process's default pool, and two definitions in one pool raise an error.
"""

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor

from muxjax.serving.frontends.oip import open_inference_pb2 as pb
from muxjax.serving.frontends.oip.servicer import OpenInference

_DESCRIPTOR = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
SERVICE = _DESCRIPTOR.full_name


def add_to_server(servicer: OpenInference, server: grpc.aio.Server) -> None:
    """Let the server answer the service's calls."""
    handlers = {method.name: _handler(method, getattr(servicer, method.name)) for method in _DESCRIPTOR.methods}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


def _handler(method: MethodDescriptor, call: Callable[..., Any]) -> "grpc.RpcMethodHandler[Any, Any]":
    kind = grpc.stream_stream_rpc_method_handler if method.server_streaming else grpc.unary_unary_rpc_method_handler
    request = message_factory.GetMessageClass(method.input_type)
    response = message_factory.GetMessageClass(method.output_type)
    return kind(call, request.FromString, response.SerializeToString)


class ReflectedPool:
    """What reflection looks up: this protocol's descriptors, then the process's own."""

    def __init__(self) -> None:
        self._pools = (pb.DESCRIPTOR.pool, descriptor_pool.Default())

    def FindFileByName(self, name: str) -> FileDescriptor:
        """Raises KeyError."""
        return self._find("FindFileByName", name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:
        """Raises KeyError."""
        return self._find("FindFileContainingSymbol", symbol)

    def __getattr__(self, name: str) -> Any:
        """Extensions: only the process's own pool can have them."""
        return getattr(self._pools[-1], name)

    def _find(self, method: str, name: str) -> FileDescriptor:
        first, default = self._pools
        try:
            return getattr(first, method)(name)
        except KeyError:
            return getattr(default, method)(name)
