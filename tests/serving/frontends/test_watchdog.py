"""Health follows the engine's loop, not the process: a loop that hangs is told to everyone, and so is its recovery."""

import asyncio
import logging
import time

import grpc
import httpx2 as httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from muxjax.serving.frontends.grpc import inference_pb2 as pb
from muxjax.serving.frontends.watchdog import Watchdog
from muxjax.serving.progress import Progress
from tests.serving.frontends.echo import Echo, EchoUnit, serve

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def watch(echo: Echo, limit: float) -> None:
    def tell(progress: Progress) -> None:
        echo.service.update(progress)
        echo.server.update(progress)

    async def run() -> None:
        watchdog = Watchdog(echo.unit, echo.service, limit, tell)
        echo.watching = asyncio.ensure_future(watchdog.run())  # type: ignore[attr-defined]

    echo.run(run()).result()


def request(max_tokens: int) -> pb.GenerateRequest:
    return pb.GenerateRequest(model="echo", text="abc", sampling=pb.SamplingParams(max_tokens=max_tokens))


def test_a_loop_that_hangs_turns_health_ends_requests_and_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    unit = EchoUnit()
    with serve(unit) as echo, echo.stub() as stub, grpc.insecure_channel(echo.address) as channel:
        watch(echo, limit=0.2)
        health = health_pb2_grpc.HealthStub(channel)
        news = health.Watch(health_pb2.HealthCheckRequest(service=""), timeout=20)
        model_news = health.Watch(health_pb2.HealthCheckRequest(service="echo"), timeout=20)
        assert next(news).status == next(model_news).status == SERVING

        running = stub.Generate(request(90_000))
        next(running)
        unit.hang.set()
        started = time.monotonic()
        assert next(news).status == next(model_news).status == NOT_SERVING
        assert time.monotonic() - started < 5
        with pytest.raises(grpc.RpcError) as ended:
            list(running)
        assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "the engine does not respond" in ended.value.details()
        with pytest.raises(grpc.RpcError) as refused:
            list(stub.Generate(request(3)))
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        response = httpx.get(f"{echo.url}/health")
        assert (response.status_code, response.json()["status"]) == (503, "stalled")
        assert stub.GetStatus(pb.GetStatusRequest()).models[0].state == pb.MODEL_STATE_STALLED

        unit.hang.clear()
        assert next(news).status == next(model_news).status == SERVING
        assert len("".join(message.text for message in stub.Generate(request(7)))) == 7
        assert httpx.get(f"{echo.url}/health").status_code == 200
        assert not unit.live, "what was ended is aborted in the unit"
    assert "echo: the engine has not gone round for 0.2 s" in caplog.text


def test_a_loop_that_goes_round_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with serve(EchoUnit()) as echo, echo.stub() as stub:
        watch(echo, limit=2.0)
        assert len(list(stub.Generate(request(50)))) > 1
    assert caplog.text == ""
