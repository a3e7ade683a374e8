"""Where the figures come from: a server's GetStatus, again and again."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import grpc

from muxjax.serving.frontends.grpc import convert
from muxjax.serving.frontends.grpc import inference_pb2 as pb
from muxjax.serving.frontends.grpc.inference_pb2_grpc import InferenceStub
from muxjax.serving.history import History
from muxjax.serving.overview import Overview

_PATIENCE_SECONDS = 5.0
_LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class NotAMuxjaxServerError(Exception):
    """The server answers, but does not tell what is shown here."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What is known now.

    Attributes:
        overview: the newest.
        is_live: whether the server answered just now; otherwise the overview is an old one.
    """

    overview: Overview
    is_live: bool


def watch(stub: InferenceStub, interval: float) -> Iterator[Moment]:
    """One moment every `interval` seconds, without end.

    Raises:
        grpc.RpcError: the first call failed, or a later one in a way that waiting does not mend.
        NotAMuxjaxServerError: another server answers, or an old one.
    """
    history = History()
    moment: Moment | None = None
    while True:
        try:
            overview = _ask(stub, history)
            if moment is not None and overview.uptime_seconds < moment.overview.uptime_seconds:
                history = History()  # the server was started anew
                overview = _ask(stub, history)
            moment = Moment(overview, is_live=True)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                raise NotAMuxjaxServerError(
                    "it does not know muxjax.v1.Inference.GetStatus: is it a muxjax server?"
                ) from error
            if moment is None or error.code() not in _LOST:
                raise
            moment = Moment(moment.overview, is_live=False)
        yield moment
        time.sleep(interval)


def _ask(stub: InferenceStub, history: History) -> Overview:
    message = stub.GetStatus(pb.GetStatusRequest(), timeout=_PATIENCE_SECONDS)
    if not message.version:
        raise NotAMuxjaxServerError("it is older than this command, and does not tell enough: update it")
    unit = convert.unit_status(message)
    history.add(unit, time.monotonic())
    return Overview(message.version, message.uptime_seconds, unit, history.llms)
