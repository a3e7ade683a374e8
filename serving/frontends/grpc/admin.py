"""The calls of muxjax.v1.Admin, and the server for them: on this machine only."""

import asyncio
from collections.abc import Callable, Mapping
from typing import override

import grpc

from muxjax.serving.frontends.access import AccessControl
from muxjax.serving.frontends.grpc import admin_pb2 as pb
from muxjax.serving.frontends.grpc.access import AskForKey
from muxjax.serving.frontends.grpc.admin_pb2_grpc import AdminServicer, add_AdminServicer_to_server
from muxjax.serving.frontends.grpc.errors import status_of
from muxjax.serving.frontends.listen import ListenError, bind
from muxjax.serving.frontends.service import Service
from muxjax.serving.management import ManagedUnit, ManagementError
from muxjax.serving.progress import LLMState, Progress
from muxjax.serving.spec import LLMSpec

_HOST = "127.0.0.1"
_LOOK_SECONDS = 0.05
_LOADING = (LLMState.LOADING, LLMState.COMPILING)

type MakeSpec = Callable[[str, Mapping[str, object]], LLMSpec]
"""An LLM out of its name and the keys that it has in the configuration. Raises ManagementError."""
type Context[Request, Response] = grpc.aio.ServicerContext[Request, Response]


class Admin(AdminServicer):
    """Changes a unit; the calls that wait do so in a thread."""

    def __init__(self, unit: ManagedUnit, service: Service, make_spec: MakeSpec) -> None:
        self._unit = unit
        self._service = service
        self._make_spec = make_spec

    @override
    async def Load(self, request: pb.LoadRequest, context: Context[pb.LoadRequest, pb.LoadResponse]) -> None:
        """Load, and tell each step."""
        fields = {field.name: value for field, value in request.ListFields() if field.name != "model"}
        await self._change(context, lambda: self._unit.load(self._make_spec(request.model, fields)))
        last: Progress | None = None
        while last is None or last.state in _LOADING:
            await asyncio.sleep(_LOOK_SECONDS)
            progress = next((news for news in self._service.models() if news.llm == request.model), None)
            if progress is not None and progress != last:
                last = progress
                await context.write(_told(progress))

    @override
    async def Unload(self, request: pb.UnloadRequest, context: Context[pb.UnloadRequest, pb.Done]) -> pb.Done:
        """Drain and forget."""
        seconds = min(max(request.seconds, 0.0), 86_400.0)
        return await self._change(context, lambda: self._unit.unload(request.model, seconds))

    @override
    async def Drain(self, request: pb.ModelName, context: Context[pb.ModelName, pb.Done]) -> pb.Done:
        """Refuse what is new."""
        return await self._change(context, lambda: self._unit.drain_llm(request.model))

    @override
    async def Resume(self, request: pb.ModelName, context: Context[pb.ModelName, pb.Done]) -> pb.Done:
        """Take what is new."""
        return await self._change(context, lambda: self._unit.resume_llm(request.model))

    @override
    async def SetRate(self, request: pb.SetRateRequest, context: Context[pb.SetRateRequest, pb.Done]) -> pb.Done:
        """Change the popularity."""
        return await self._change(context, lambda: self._unit.set_rate(request.model, request.rate))

    @override
    async def SetQuota(self, request: pb.SetQuotaRequest, context: Context[pb.SetQuotaRequest, pb.Done]) -> pb.Done:
        """Change the quota."""
        return await self._change(context, lambda: self._unit.set_quota(request.model, request.blocks))

    async def _change[Request, Response](
        self, context: Context[Request, Response], change: Callable[[], None]
    ) -> pb.Done:
        try:
            await asyncio.to_thread(change)
        except ManagementError as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        except Exception as error:
            status = status_of(error)
            await context.abort(status.code, status.message)
        return pb.Done()


class AdminServer:
    """The Admin service on the loopback interface.

    Construct it in the event loop. It holds its port from construction on. Raises ListenError.

    Attributes:
        address: host:port, with the port that was found when 0 was asked for.
    """

    def __init__(self, admin: Admin, access: AccessControl, *, port: int) -> None:
        self._server = grpc.aio.server(interceptors=[AskForKey(access)], options=[("grpc.so_reuseport", 0)])
        add_AdminServicer_to_server(admin, self._server)  # type: ignore[no-untyped-call]
        bind(_HOST, port, option="admin_port").close()  # gRPC's own error lacks the reason
        try:
            self.address = f"{_HOST}:{self._server.add_insecure_port(f'{_HOST}:{port}')}"
        except RuntimeError as error:
            raise ListenError(_HOST, port, str(error), option="admin_port") from error

    async def start(self) -> None:
        """Answer calls."""
        await self._server.start()

    async def stop(self) -> None:
        """Close the port."""
        await self._server.stop(0)


def _told(progress: Progress) -> pb.LoadResponse:
    return pb.LoadResponse(
        state=progress.state.value,
        done=progress.done,
        total=progress.total,
        seconds=progress.seconds,
        error=progress.error or "",
    )
