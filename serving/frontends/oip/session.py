"""One call of ModelStreamInfer: many requests at a time, whose responses come as they are ready."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from muxjax.serving.frontends.access import Caller
from muxjax.serving.frontends.grpc.errors import status_of
from muxjax.serving.frontends.grpc.servicer import Context
from muxjax.serving.frontends.oip import open_inference_pb2 as pb
from muxjax.serving.frontends.oip.infer import Inferences
from muxjax.serving.frontends.oip.request import is_stop
from muxjax.serving.frontends.oip.responses import empty_response
from muxjax.serving.frontends.patience import Patience
from muxjax.serving.frontends.request_log import write_refusal
from muxjax.serving.frontends.stream import ClientTooSlow

MAX_CONCURRENT = 256
"""Requests of one call at a time; the next ones are read when some have ended."""

type StreamContext = Context[pb.ModelInferRequest, pb.ModelStreamInferResponse]


class Session:
    """Runs the requests of one call, each in a task of its own; one that fails leaves the others alone.

    While a response waits for the client, the requests' outputs gather and go into their next responses.
    """

    def __init__(self, inferences: Inferences, caller: Caller, context: StreamContext, stall_seconds: float) -> None:
        self._inferences = inferences
        self._caller = caller
        self._context = context
        self._patience = Patience(stall_seconds)
        self._places = asyncio.Semaphore(MAX_CONCURRENT)
        self._writing = asyncio.Lock()  # gRPC takes one message of a call at a time
        self._running: dict[asyncio.Task[None], pb.ModelInferRequest] = {}

    async def run(self, requests: AsyncIterator[pb.ModelInferRequest]) -> None:
        """Answer all; ends when the client sends no more and has all responses.

        Raises:
            ClientTooSlow: it does not read them.
            DecodeError: what it sent is no request.
        """
        try:
            async with asyncio.TaskGroup() as group:
                async for request in requests:
                    await self._places.acquire()
                    task = group.create_task(self._answer(request))
                    self._running[task] = request
                    task.add_done_callback(self._ended)
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            self._patience.close()

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._places.release()

    async def _answer(self, request: pb.ModelInferRequest) -> None:
        try:
            if is_stop(request):
                await self._stop(request)
                return
            responses = self._inferences.run(request, self._caller, self._context.time_remaining(), can_stream=True)
            async with contextlib.aclosing(responses):
                async for response in responses:
                    await self._write(response)
        except ClientTooSlow:
            raise
        except Exception as error:
            failure = empty_response(request.model_name, request.id, final=True)
            write_refusal(error, protocol="grpc")
            message = status_of(error).message
            await self._write(pb.ModelStreamInferResponse(error_message=message, infer_response=failure))

    async def _stop(self, request: pb.ModelInferRequest) -> None:
        """Cancel what the call runs under the request's id, and say for each that it is over."""
        stopped = {
            task: other for task, other in self._running.items() if other.id == request.id and other is not request
        }
        async with self._writing:  # nothing is cancelled in the middle of a message
            for task in stopped:
                task.cancel()
        await asyncio.gather(*stopped, return_exceptions=True)
        for ended in (*stopped.values(), request):
            final = empty_response(ended.model_name, ended.id, final=True)
            await self._write(pb.ModelStreamInferResponse(infer_response=final))

    async def _write(self, message: pb.ModelStreamInferResponse) -> None:
        async with self._writing:
            await self._patience.write(self._context.write(message))
