"""The calls of muxjax.v1.Inference."""

import contextlib
import time
from collections.abc import AsyncIterator
from typing import override

import grpc

from muxjax.serving.frontends.grpc import convert
from muxjax.serving.frontends.grpc import inference_pb2 as pb
from muxjax.serving.frontends.grpc.access import caller
from muxjax.serving.frontends.grpc.errors import abort
from muxjax.serving.frontends.grpc.inference_pb2_grpc import InferenceServicer
from muxjax.serving.frontends.patience import STALL_SECONDS, Patience
from muxjax.serving.frontends.service import Service
from muxjax.serving.frontends.stream import Stream
from muxjax.serving.progress import Progress

type Context[Request, Response] = grpc.aio.ServicerContext[Request, Response]


class Inference(InferenceServicer):
    """Answers from a `Service`."""

    def __init__(self, service: Service, stall_seconds: float = STALL_SECONDS) -> None:
        self._service = service
        self._stall_seconds = stall_seconds
        self._started = time.monotonic()

    @override
    async def Generate(
        self, request: pb.GenerateRequest, context: Context[pb.GenerateRequest, pb.GenerateResponse]
    ) -> None:
        """Write the request's outputs as they come; whatever ends the call early aborts the request."""
        try:
            async with self._service.generate(
                request.model,
                convert.prompt(request),
                convert.sampling(request.sampling),
                caller=caller(),
                timeout=context.time_remaining(),
            ) as stream:
                with contextlib.closing(Patience(self._stall_seconds)) as patience:
                    async for message in _messages(stream):
                        await patience.write(context.write(message))
        except Exception as error:
            await abort(context, error)

    @override
    async def ListModels(
        self, request: pb.ListModelsRequest, context: Context[pb.ListModelsRequest, pb.ListModelsResponse]
    ) -> pb.ListModelsResponse:
        """The models that the caller may ask, ready or not."""
        return pb.ListModelsResponse(models=[convert.model(progress) for progress in self._models()])

    @override
    async def GetStatus(
        self, request: pb.GetStatusRequest, context: Context[pb.GetStatusRequest, pb.GetStatusResponse]
    ) -> pb.GetStatusResponse:
        """The unit's figures, and those of the models that the caller may ask."""
        uptime = time.monotonic() - self._started
        try:
            return convert.status(self._service.status(), self._models(), uptime)
        except Exception as error:
            await abort(context, error)

    def _models(self) -> list[Progress]:
        return [progress for progress in self._service.models() if caller().may_ask(progress.llm)]


async def _messages(stream: Stream) -> AsyncIterator[pb.GenerateResponse]:
    """One message per completion that has news; the last of all carries the usage."""
    async for outputs in stream:
        messages = [convert.response(output) for output in outputs]
        if stream.is_read:
            messages[-1].usage.prompt_tokens = len(stream.request.prompt_token_ids)
            messages[-1].usage.completion_tokens = stream.completion_tokens
        for message in messages:
            yield message
