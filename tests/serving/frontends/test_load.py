"""A real engine behind real sockets, under more load than it can take: nothing breaks, leaks or waits without end."""

import asyncio
import contextlib
import gc
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from muxjax.serving.engine import Engine
from muxjax.serving.frontends.access import AccessControl
from muxjax.serving.frontends.grpc.server import GrpcServer
from muxjax.serving.frontends.service import Service
from muxjax.serving.plan import plan_unit
from muxjax.serving.progress import LLMState, Progress
from muxjax.serving.request import Output, Request
from muxjax.serving.unit import Deliver
from tests.serving.frontends.load import TOKENS, send
from tests.serving.unit_under_test import unit_spec, write_configs

STREAMS = 1000
SECONDS = 4.0
MAX_WAITING = 64
MAX_SEQUENCES = 32


@dataclass(frozen=True)
class Served:
    """An engine and the address that it is served at."""

    engine: Engine
    address: str


@contextlib.contextmanager
def serving(folder: Path, **limits: int) -> Iterator[Served]:
    """Two LLMs over gRPC, in a thread of their own."""
    sources = write_configs(folder)
    spec = unit_spec({name: sources[name] for name in ("small", "wide")}, max_sequences=MAX_SEQUENCES, **limits)
    started: list[Served] = []
    ready, stop = threading.Event(), threading.Event()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        news: asyncio.Queue[Progress] = asyncio.Queue()
        engine = Engine(plan_unit(spec), lambda progress: loop.call_soon_threadsafe(news.put_nowait, progress) and None)
        service = Service(engine, [llm.name for llm in spec.llms], max_requests=4 * STREAMS)
        server = GrpcServer(service, AccessControl(), port=0, max_requests=4 * STREAMS)
        await server.start()
        engine.start()
        while not all(progress.state is LLMState.READY for progress in service.models()):
            progress = await news.get()
            service.update(progress)
            server.update(progress)
        started.append(Served(engine, server.address))
        ready.set()
        await asyncio.to_thread(stop.wait)
        service.close()
        await server.stop()
        engine.close()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    assert ready.wait(120)
    try:
        yield started[0]
    finally:
        stop.set()
        thread.join()


class Turns:
    """Counts, of each request that an engine takes, the requests to its LLM that end before it does.

    Attributes:
        most: the largest count.
    """

    def __init__(self, engine: Engine) -> None:
        self.most = 0
        self._ended: Counter[str] = Counter()
        self._submit = engine.submit
        engine.submit = self.submit

    def submit(self, request: Request, deliver: Deliver) -> None:
        before = self._ended[request.llm]

        def counted(outputs: Sequence[Output]) -> None:
            if any(output.finish_reason for output in outputs):
                self.most = max(self.most, self._ended[request.llm] - before)
                self._ended[request.llm] += 1
            deliver(outputs)

        self._submit(request, counted)


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def check_nothing_is_left(served: Served) -> None:
    status = served.engine.status()
    assert status.blocks_free == status.blocks_total
    assert all(llm.running == llm.waiting == 0 for llm in status.llms)
    served.engine._pool.check_integrity()


def test_a_thousand_streams_at_once_all_get_their_tokens(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        asyncio.run(send(served.address, 64))
        before = resident_bytes()
        outcomes = asyncio.run(send(served.address, STREAMS))
        assert {(outcome.code, outcome.tokens) for outcome in outcomes} == {(grpc.StatusCode.OK, TOKENS)}
        check_nothing_is_left(served)
        asyncio.run(send(served.address, STREAMS))
        assert resident_bytes() - before < 100 << 20


def test_twice_the_sustainable_rate_is_refused_with_a_hint_and_what_is_admitted_is_served(tmp_path: Path) -> None:
    with serving(tmp_path, max_waiting=MAX_WAITING) as served:
        asyncio.run(send(served.address, 2 * (MAX_WAITING + MAX_SEQUENCES)))
        started = time.monotonic()
        for _ in range(2):
            assert all(outcome.code is grpc.StatusCode.OK for outcome in asyncio.run(send(served.address, MAX_WAITING)))
        sustainable = 2 * MAX_WAITING / (time.monotonic() - started)
        before, turns = resident_bytes(), Turns(served.engine)
        outcomes = asyncio.run(send(served.address, int(2 * sustainable * SECONDS), rate=2 * sustainable))
        admitted = [outcome for outcome in outcomes if outcome.code is grpc.StatusCode.OK]
        refused = [outcome for outcome in outcomes if outcome.code is grpc.StatusCode.RESOURCE_EXHAUSTED]
        assert len(admitted) + len(refused) == len(outcomes)
        assert all(outcome.tokens == TOKENS for outcome in admitted)
        assert all(outcome.has_hint for outcome in refused)
        assert len(admitted) > 0.1 * len(outcomes)
        # Before it end what waited, what ran, and what ended in the steps that were not handed out when it came.
        assert turns.most <= MAX_WAITING + 3 * MAX_SEQUENCES
        check_nothing_is_left(served)
        assert resident_bytes() - before < 200 << 20
