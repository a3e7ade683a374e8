"""The calls of inference.GRPCInferenceService."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from importlib.metadata import version
from typing import NoReturn

import grpc

from muxjax.serving.frontends.grpc.access import caller
from muxjax.serving.frontends.grpc.errors import abort
from muxjax.serving.frontends.grpc.servicer import Context
from muxjax.serving.frontends.oip import describe
from muxjax.serving.frontends.oip import open_inference_pb2 as pb
from muxjax.serving.frontends.oip.infer import Inferences, check_version
from muxjax.serving.frontends.oip.session import Session, StreamContext
from muxjax.serving.frontends.oip.statistics import Statistics
from muxjax.serving.frontends.patience import STALL_SECONDS
from muxjax.serving.frontends.service import Service
from muxjax.serving.progress import LLMState, Progress

_EXTENSIONS = ("model_repository", "model_configuration", "statistics")
_TRACE_SETTINGS: Mapping[str, list[str]] = {"trace_level": ["OFF"]}

type _Any = Context[object, object]


class OpenInference:
    """Answers from a `Service`; `handlers.py` finds a method for each call by its name."""

    def __init__(self, service: Service, stall_seconds: float = STALL_SECONDS) -> None:
        self._service = service
        self._stall_seconds = stall_seconds
        self._statistics = Statistics()
        self._inferences = Inferences(service, self._statistics)

    async def ServerLive(self, request: pb.ServerLiveRequest, context: _Any) -> pb.ServerLiveResponse:
        """The process answers, so it lives."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest, context: _Any) -> pb.ServerReadyResponse:
        """Whether any model can be asked, as in grpc.health.v1."""
        any_ready = any(progress.state is LLMState.READY for progress in self._service.models())
        return pb.ServerReadyResponse(ready=any_ready and not self._service.is_stopping)

    async def ModelReady(self, request: pb.ModelReadyRequest, context: _Any) -> pb.ModelReadyResponse:
        """Whether the model can be asked; false for one that is not here."""
        ready = {progress.llm for progress in self._models() if progress.state is LLMState.READY}
        return pb.ModelReadyResponse(ready=request.name in ready and not self._service.is_stopping)

    async def ServerMetadata(self, request: pb.ServerMetadataRequest, context: _Any) -> pb.ServerMetadataResponse:
        """Name and version."""
        return pb.ServerMetadataResponse(name="muxjax", version=version("muxjax"), extensions=_EXTENSIONS)

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, context: _Any) -> pb.ModelMetadataResponse:
        """A ready model's inputs and outputs."""
        async with _errors(context):
            return describe.metadata(self._ready(request.name, request.version))

    async def ModelConfig(self, request: pb.ModelConfigRequest, context: _Any) -> pb.ModelConfigResponse:
        """A ready model's configuration."""
        async with _errors(context):
            return describe.config(self._service.endpoint(self._ready(request.name, request.version)))

    async def ModelStatistics(self, request: pb.ModelStatisticsRequest, context: _Any) -> pb.ModelStatisticsResponse:
        """One model's statistics, or those of all ready ones."""
        async with _errors(context):
            ready = [progress.llm for progress in self._models() if progress.state is LLMState.READY]
            names = [self._ready(request.name, request.version)] if request.name else ready
            return pb.ModelStatisticsResponse(model_stats=[self._statistics.message(name) for name in names])

    async def ModelInfer(
        self, request: pb.ModelInferRequest, context: Context[pb.ModelInferRequest, pb.ModelInferResponse]
    ) -> pb.ModelInferResponse:
        """All of a request's completions in one response."""
        async with _errors(context):
            responses = self._inferences.run(request, caller(), context.time_remaining(), can_stream=False)
            async with contextlib.aclosing(responses):
                async for response in responses:
                    return response.infer_response
            raise AssertionError("an inference gives a response or raises")

    async def ModelStreamInfer(self, requests: AsyncIterator[pb.ModelInferRequest], context: StreamContext) -> None:
        """Any number of requests, each with its responses."""
        async with _errors(context):
            await Session(self._inferences, caller(), context, self._stall_seconds).run(requests)

    async def RepositoryIndex(self, request: pb.RepositoryIndexRequest, context: _Any) -> pb.RepositoryIndexResponse:
        """The models that the caller may ask, ready or not."""
        return describe.index(self._models(), only_ready=request.ready)

    async def RepositoryModelLoad(self, request: pb.RepositoryModelLoadRequest, context: _Any) -> NoReturn:
        """Refused: that is not for whoever may ask models."""
        await _refuse_management(context)

    async def RepositoryModelUnload(self, request: pb.RepositoryModelUnloadRequest, context: _Any) -> NoReturn:
        """Refused, as loading is."""
        await _refuse_management(context)

    async def SystemSharedMemoryStatus(
        self, request: pb.SystemSharedMemoryStatusRequest, context: _Any
    ) -> pb.SystemSharedMemoryStatusResponse:
        """No regions, ever."""
        return pb.SystemSharedMemoryStatusResponse()

    async def SystemSharedMemoryRegister(
        self, request: pb.SystemSharedMemoryRegisterRequest, context: _Any
    ) -> NoReturn:
        """Refused: the server reads nothing but messages."""
        await _refuse_shared_memory(context)

    async def SystemSharedMemoryUnregister(
        self, request: pb.SystemSharedMemoryUnregisterRequest, context: _Any
    ) -> pb.SystemSharedMemoryUnregisterResponse:
        """Nothing is registered, so nothing is to be done."""
        return pb.SystemSharedMemoryUnregisterResponse()

    async def CudaSharedMemoryStatus(
        self, request: pb.CudaSharedMemoryStatusRequest, context: _Any
    ) -> pb.CudaSharedMemoryStatusResponse:
        """No regions, ever."""
        return pb.CudaSharedMemoryStatusResponse()

    async def CudaSharedMemoryRegister(self, request: pb.CudaSharedMemoryRegisterRequest, context: _Any) -> NoReturn:
        """Refused, as the system's shared memory is."""
        await _refuse_shared_memory(context)

    async def CudaSharedMemoryUnregister(
        self, request: pb.CudaSharedMemoryUnregisterRequest, context: _Any
    ) -> pb.CudaSharedMemoryUnregisterResponse:
        """Nothing is registered, so nothing is to be done."""
        return pb.CudaSharedMemoryUnregisterResponse()

    async def TraceSetting(self, request: pb.TraceSettingRequest, context: _Any) -> pb.TraceSettingResponse:
        """The settings, which clients cannot change."""
        if any(setting.value for setting in request.settings.values()):
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "clients cannot change what the server traces")
        response = pb.TraceSettingResponse()
        for name, values in _TRACE_SETTINGS.items():
            response.settings[name].value.extend(values)
        return response

    async def LogSettings(self, request: pb.LogSettingsRequest, context: _Any) -> pb.LogSettingsResponse:
        """The settings, which clients cannot change."""
        if request.settings:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "clients cannot change what the server logs")
        response = pb.LogSettingsResponse()
        response.settings["log_error"].bool_param = True
        response.settings["log_warning"].bool_param = True
        return response

    def _models(self) -> list[Progress]:
        return [progress for progress in self._service.models() if caller().may_ask(progress.llm)]

    def _ready(self, name: str, model_version: str) -> str:
        """The name of a ready model that the caller may ask. Raises what `Service.generate` does for others."""
        check_version("version", model_version)
        self._service.endpoint(name)
        caller().check_model(name)
        return name


@contextlib.asynccontextmanager
async def _errors[Request, Response](context: Context[Request, Response]) -> AsyncIterator[None]:
    """Ends the call with the status of what went wrong."""
    try:
        yield
    except Exception as error:
        await abort(context, error)


async def _refuse_management(context: _Any) -> NoReturn:
    await context.abort(
        grpc.StatusCode.PERMISSION_DENIED,
        "models are not loaded or unloaded here: use the server's admin port (python -m muxjax.client --help)",
    )


async def _refuse_shared_memory(context: _Any) -> NoReturn:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "shared memory is not read here: send tensors in the message")
