"""One inference: a request in, its responses out."""

import time
from collections.abc import AsyncGenerator

from muxjax.serving.errors import InvalidRequest
from muxjax.serving.frontends.access import Caller
from muxjax.serving.frontends.oip import open_inference_pb2 as pb
from muxjax.serving.frontends.oip.request import read_request
from muxjax.serving.frontends.oip.responses import VERSION, ResponseWriter, empty_response
from muxjax.serving.frontends.oip.statistics import Statistics
from muxjax.serving.frontends.service import Service
from muxjax.serving.frontends.stream import Stream, join
from muxjax.serving.request import Output

_MAX_ID = 256  # characters


class Inferences:
    """Runs inferences on a `Service` and counts them."""

    def __init__(self, service: Service, statistics: Statistics) -> None:
        self._service = service
        self._statistics = statistics

    async def run(
        self, message: pb.ModelInferRequest, caller: Caller, seconds_left: float | None, *, can_stream: bool
    ) -> AsyncGenerator[pb.ModelStreamInferResponse]:
        """The request's responses; the last one is marked as final. Closing the generator aborts the request.

        Args:
            message: the request.
            caller: who sent it.
            seconds_left: until its call's deadline; None without one.
            can_stream: whether more than one response can be sent.

        Raises:
            InvalidRequest, and what `Service.generate` and its `Stream` do.
        """
        check_version("model_version", message.model_version)
        if len(message.id) > _MAX_ID:
            raise InvalidRequest("id", f"has {len(message.id)} characters; at most {_MAX_ID} are taken")
        endpoint = self._service.endpoint(message.model_name)
        caller.check_model(message.model_name)
        started = time.monotonic()
        is_done = False
        try:
            inference = read_request(message, endpoint)
            if inference.stream and not can_stream:
                raise InvalidRequest("stream", "is true, which one response cannot be: call ModelStreamInfer")
            limits = [seconds for seconds in (inference.timeout, seconds_left) if seconds is not None]
            async with self._service.generate(
                message.model_name,
                inference.prompt,
                inference.sampling,
                caller=caller,
                timeout=min(limits, default=None),
                client_id=message.id or None,
            ) as stream:
                writer = ResponseWriter(message, inference, endpoint, stream.request)
                async for outputs in stream if inference.stream else _whole(stream):
                    is_done = stream.is_read
                    yield writer.response(outputs, final=is_done and not inference.empty_final)
            if inference.empty_final and can_stream:
                last = empty_response(message.model_name, message.id, final=True)
                yield pb.ModelStreamInferResponse(infer_response=last)
        finally:
            count = self._statistics.succeeded if is_done else self._statistics.failed
            count(message.model_name, time.monotonic() - started)


def check_version(field: str, version: str) -> None:
    """Raises InvalidRequest for a version that no model has."""
    if version not in ("", VERSION):
        raise InvalidRequest(field, f"is {version[:64]!r}; models have one version: send {VERSION!r}, or none")


async def _whole(stream: Stream) -> AsyncGenerator[list[Output]]:
    """All completions, when they are finished."""
    pieces: list[list[Output]] = [[] for _ in range(stream.request.sampling.n)]
    async for outputs in stream:
        for output in outputs:
            pieces[output.index].append(output)
    yield [join(outputs) for outputs in pieces]
