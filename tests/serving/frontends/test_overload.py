"""A whole server under twice what it can serve, for minutes: nothing breaks, leaks or waits for long."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import grpc
import pytest

from muxjax.serving.frontends.grpc import inference_pb2 as pb
from muxjax.serving.frontends.grpc.inference_pb2_grpc import InferenceStub
from tests.muxjax.serve.process import serve_process
from tests.serving.frontends.load import Outcome, percentile, send

STREAMS = 1000
SECONDS = 180.0
WARM_SECONDS = 20.0
MAX_TOKENS = 32
MODELS = ("arithmetic", "code", "prose")
CONFIG = f"""
llms:
  arithmetic: {{source: 'demo:arithmetic', max_waiting: {STREAMS}}}
  code: {{source: 'demo:code', max_waiting: {STREAMS}}}
  prose: {{source: 'demo:prose', max_waiting: {STREAMS}}}
pool: {{memory: 64MiB}}
scheduler: {{max_waiting: {STREAMS}}}
server: {{max_requests: {STREAMS}}}
logging: {{level: warning}}
"""


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def num_served(outcomes: Sequence[Outcome]) -> int:
    return sum(outcome.code is grpc.StatusCode.OK for outcome in outcomes)


async def most_at_once(address: str) -> int:
    """The most requests that ran or waited at a time; ends when it is cancelled."""
    most = 0
    async with grpc.aio.insecure_channel(address) as channel:
        stub = InferenceStub(channel)
        try:
            while True:
                status = await stub.GetStatus(pb.GetStatusRequest())
                most = max(most, sum(model.running + model.waiting for model in status.models))
                await asyncio.sleep(0.5)
        except asyncio.CancelledError:
            return most


async def find_sustainable(ask: Callable[..., Awaitable[list[Outcome]]]) -> float:
    """Requests that are served in a second, by a server that is offered more."""
    rate = 50.0
    while True:
        started = time.monotonic()
        outcomes = await ask(int(rate * WARM_SECONDS), rate)
        served = num_served(outcomes) / (time.monotonic() - started)
        if served < 0.7 * rate:
            return served
        rate *= 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twice_the_sustainable_rate_for_minutes_with_a_thousand_streams(tmp_path: Path) -> None:
    config = tmp_path / "three.yaml"
    config.write_text(CONFIG)
    with serve_process(str(config), "--port", "0", "--http-port", "0") as server:
        address = server.wait_for("start")["address"]
        server.wait_for("serving")

        ask = partial(send, address, models=MODELS, max_tokens=MAX_TOKENS)
        sustainable = asyncio.run(find_sustainable(ask))
        before = resident_bytes(server.process.pid)

        async def campaign() -> tuple[list[Outcome], int]:
            watch = asyncio.create_task(most_at_once(address))
            outcomes = await ask(int(2 * sustainable * SECONDS), 2 * sustainable)
            watch.cancel()
            return outcomes, await watch

        started = time.monotonic()
        outcomes, most = asyncio.run(campaign())
        served_per_second = sum(outcome.code is grpc.StatusCode.OK for outcome in outcomes) / (
            time.monotonic() - started
        )
        grown = resident_bytes(server.process.pid) - before
        admitted = [outcome for outcome in outcomes if outcome.code is grpc.StatusCode.OK]
        refused = [outcome for outcome in outcomes if outcome.code is grpc.StatusCode.RESOURCE_EXHAUSTED]
        print(  # for who runs this by hand, with -s
            f"{sustainable:.0f}/s sustainable, {len(outcomes)} sent, {served_per_second:.0f}/s served, {len(refused)} "
            f"refused, {most} at once, p50 {percentile(admitted, 0.5):.1f} s, p99 {percentile(admitted, 0.99):.1f} s, "
            f"memory {grown / 2**20:+.1f} MiB"
        )
        assert len(admitted) + len(refused) == len(outcomes)
        assert all(outcome.has_hint for outcome in refused)
        assert most > 0.9 * STREAMS
        # Who is admitted waits behind no more than STREAMS others (Little's law), some of them a little longer.
        assert percentile(admitted, 0.99) < 2 * STREAMS / served_per_second
        with grpc.insecure_channel(address) as channel:
            status = InferenceStub(channel).GetStatus(pb.GetStatusRequest())
        assert status.blocks_free == status.blocks_total
        assert all(model.running == model.waiting == 0 for model in status.models)
        assert grown < 64 << 20
