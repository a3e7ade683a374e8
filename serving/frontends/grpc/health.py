"""grpc.health.v1: which LLMs can be asked now.

Not grpcio-health-checking's own asyncio servicer: that one forgets all watchers of a name when the first one leaves.
"""

import asyncio
from typing import override

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

type Context = grpc.aio.ServicerContext[HealthCheckRequest, HealthCheckResponse]


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Answers for each name that was `set`; watchers hear of every change."""

    def __init__(self) -> None:
        self._serving: dict[str, bool] = {}
        self._changed = asyncio.Event()
        self._closed = False

    def set(self, name: str, serving: bool) -> None:
        """From now on the name is SERVING, or NOT_SERVING."""
        self._serving[name] = serving and not self._closed
        self._notify()

    def forget(self, name: str) -> None:
        """From now on the name is unknown."""
        self._serving.pop(name, None)
        self._notify()

    def close(self) -> None:
        """From now on everything is NOT_SERVING, and watchers are let go when they have heard so."""
        self._closed = True
        self._serving = dict.fromkeys(self._serving, False)
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _status(self, name: str) -> HealthCheckResponse.ServingStatus:
        if name not in self._serving:
            return HealthCheckResponse.SERVICE_UNKNOWN
        return HealthCheckResponse.SERVING if self._serving[name] else HealthCheckResponse.NOT_SERVING

    @override
    async def Check(self, request: HealthCheckRequest, context: Context) -> HealthCheckResponse:
        """The state now; NOT_FOUND for a name never heard of."""
        if request.service not in self._serving:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return HealthCheckResponse(status=self._status(request.service))

    @override
    async def Watch(self, request: HealthCheckRequest, context: Context) -> None:
        """The state now and after each change."""
        last = None
        while True:
            changed = self._changed
            status = self._status(request.service)
            if status != last:
                await context.write(HealthCheckResponse(status=status))
                last = status
            if self._closed:
                return
            await changed.wait()
