"""A unit whose LLMs repeat their prompt, for what frontends do with stalls and failures, and a server for it."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import grpc

from muxjax.models.chat import ChatTemplate
from muxjax.serving.endpoint import Endpoint
from muxjax.serving.frontends.access import AccessControl
from muxjax.serving.frontends.grpc.inference_pb2_grpc import InferenceStub
from muxjax.serving.frontends.grpc.server import GrpcServer
from muxjax.serving.frontends.http.server import HttpServer
from muxjax.serving.frontends.service import Service
from muxjax.serving.frontends.tls import TLS
from muxjax.serving.histogram import Histogram, HistogramCounts
from muxjax.serving.progress import LLMState, Progress
from muxjax.serving.request import FinishReason, Output, Request, TokenLogprobs
from muxjax.serving.spec import SLO
from muxjax.serving.statistics import LATENCY_BUCKETS, Percentiles
from muxjax.serving.unit import Deliver, LLMStatus, UnitStatus

VOCAB_SIZE = 0x110000
TEMPLATE = ChatTemplate(
    "{% if enable_thinking is defined %}{{ enable_thinking | tojson }}{% endif %}"
    "{% if tools %}{{ tools | tojson }}{% endif %}"
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}"
    "{% if message.reasoning_content %}({{ message.reasoning_content }}){% endif %}"
    "{% for call in message.tool_calls or () %}{{ call.function | tojson }}{% endfor %}{% endfor %}",
    {},
)
MODELS = ("echo", "ids", "late", "broken")


class CodePoints:
    """Tokenises by code point."""

    takes_tools = True

    def encode(self, text: str, *, add_bos: bool = True) -> list[int]:
        return [ord(character) for character in text]

    def decode(self, token_ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        return "".join(map(chr, token_ids))

    def token_bytes(self, token: int, previous: int | None, /) -> bytes:
        return chr(token).encode("utf-8", "replace")

    def apply_chat_template(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> list[int]:
        return self.encode(TEMPLATE.render(messages, **options))


ECHO = Endpoint("echo", VOCAB_SIZE, max_context=100_000, tokenizer=CodePoints())
IDS = Endpoint("ids", VOCAB_SIZE, max_context=64, tokenizer=None)


@dataclass
class EchoUnit:
    """Gives each completion one token of its prompt a step, over and over; thread and steps are real.

    Attributes:
        step_seconds: between steps.
        refuse_with: raised by `submit`.
        fail_at: the completion's token at which a request ends with ERROR; None never.
        hang: no step begins while it is set.
        turned_at: when the last step began.
        live: requests that run, with their receivers.
        aborted: ids of requests that were aborted while they ran.
        deliveries: how often `deliver` was called, and with how many outputs.
    """

    step_seconds: float = 0.0005
    refuse_with: Exception | None = None
    fail_at: int | None = None
    hang: threading.Event = field(default_factory=threading.Event)
    turned_at: float = field(default_factory=time.monotonic)
    live: dict[str, tuple[Request, Deliver, int]] = field(default_factory=dict)
    aborted: list[str] = field(default_factory=list)
    deliveries: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: threading.Event = field(default_factory=threading.Event)

    def submit(self, request: Request, deliver: Deliver) -> None:
        if self.refuse_with is not None:
            raise self.refuse_with
        with self.lock:
            self.live[request.id] = (request, deliver, 0)

    def abort(self, request_id: str) -> None:
        with self.lock:
            if self.live.pop(request_id, None) is not None:
                self.aborted.append(request_id)

    def seconds_since_turn(self, llm: str) -> float:
        return time.monotonic() - self.turned_at

    def status(self) -> UnitStatus:
        with self.lock:
            running = len(self.live)
        llm = LLMStatus(
            "echo",
            "ready",
            0,
            running,
            10 * running,
            500,
            3,
            1000,
            2000,
            blocks_entitled=400,
            errors=1,
            prefill_share=0.25,
            decode_share=0.5,
            tokens_per_second=20.0,
            ttft=Percentiles(0.1, 0.2, 0.3),
            slo=SLO(ttft=0.2),
            slo_attainment=0.9,
            ended={FinishReason.STOP: 7},
            latencies=_latencies(),
        )
        free = 1000 - 10 * running
        return UnitStatus((llm,), blocks_total=1000, blocks_free=free, steps=42, fairness_gap=0.25, busy=0.75)

    def run(self) -> None:
        """The steps; returns after `stopped` is set."""
        while not self.stopped.wait(self.step_seconds):
            if self.hang.is_set():
                continue
            self.turned_at = time.monotonic()
            with self.lock:
                receivers: dict[Deliver, list[Output]] = {}
                for id_, (request, deliver, done) in list(self.live.items()):
                    outputs = self._step(request, done)
                    receivers.setdefault(deliver, []).extend(outputs)
                    self.live[id_] = (request, deliver, done + 1)
                    if outputs[0].finish_reason is not None:
                        del self.live[id_]
            for deliver, outputs in receivers.items():
                self.deliveries.append(len(outputs))
                deliver(outputs)

    def _step(self, request: Request, done: int) -> list[Output]:
        sampling = request.sampling
        assert sampling.max_tokens is not None
        token = request.prompt_token_ids[done % len(request.prompt_token_ids)]
        logprobs: tuple[TokenLogprobs, ...] = ()
        if sampling.logprobs is not None:
            top = tuple(range(sampling.logprobs))
            logprobs = (TokenLogprobs(-0.5, top, tuple(-1.0 - rank for rank in top)),)
        reason = FinishReason.LENGTH if done + 1 == sampling.max_tokens else None
        error = None
        if done == self.fail_at:
            reason, error = FinishReason.ERROR, "secret address 0xdeadbeef"
        elif request.deadline is not None and time.monotonic() > request.deadline:
            reason = FinishReason.DEADLINE
        return [Output(request.id, index, (token,), chr(token), logprobs, reason, error) for index in range(sampling.n)]


def _latencies() -> dict[str, HistogramCounts]:
    histograms = {name: Histogram(bounds) for name, bounds in LATENCY_BUCKETS.items()}
    for seconds in (0.03, 0.03, 3000.0):
        histograms["time_to_first_token_seconds"].add(seconds)
    return {name: histogram.counts() for name, histogram in histograms.items()}


@dataclass
class Echo:
    """A server on ports of its own, in a thread of its own."""

    unit: EchoUnit
    service: Service
    server: GrpcServer
    http: HttpServer
    loop: asyncio.AbstractEventLoop

    @property
    def address(self) -> str:
        return self.server.address

    @property
    def url(self) -> str:
        return f"http://{self.http.address}"

    def stub(self, *options: tuple[str, int]) -> "contextlib.AbstractContextManager[InferenceStub]":
        """A client, which the block closes."""
        return _stub(self.address, options)

    def run(self, coroutine: Coroutine[object, object, None]) -> Future[None]:
        """Start something in the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def eventually(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        """Wait until something is so."""
        limit = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < limit, "it did not happen"
            time.sleep(0.01)

    def update(self, progress: Progress) -> None:
        """Give the frontends the news of one LLM, as the engine's thread does."""

        async def apply() -> None:
            self.service.update(progress)
            self.server.update(progress)

        self.run(apply()).result()


@contextlib.contextmanager
def _stub(address: str, options: Sequence[tuple[str, int]]) -> Iterator[InferenceStub]:
    with grpc.insecure_channel(address, options=options) as channel:
        yield InferenceStub(channel)


@contextlib.contextmanager
def serve(
    unit: EchoUnit, access: AccessControl | None = None, tls: TLS | None = None, **options: float | None
) -> Iterator[Echo]:
    """Serve "echo" (text) and "ids" (token ids only), with "late" still loading and "broken" failed."""
    service_options = {name: options.pop(name) for name in ("request_timeout", "max_requests") if name in options}
    http_options = {name: options.pop(name) for name in ("max_body_bytes",) if name in options}
    started: list[Echo] = []
    ready = threading.Event()
    stop: list[asyncio.Event] = []

    async def run() -> None:
        service = Service(unit, MODELS, **service_options)
        http = HttpServer(service, access or AccessControl(), tls=tls, port=0, **http_options)
        server = GrpcServer(service, access or AccessControl(), tls=tls, port=0, **options)
        for progress in (
            Progress("echo", LLMState.READY, endpoint=ECHO),
            Progress("ids", LLMState.READY, endpoint=IDS),
            Progress("broken", LLMState.FAILED, error="weights/ is truncated"),
        ):
            service.update(progress)
            server.update(progress)
        await server.start()
        await http.start()
        stop.append(asyncio.Event())
        started.append(Echo(unit, service, server, http, asyncio.get_running_loop()))
        ready.set()
        await stop[0].wait()
        service.close()
        await http.stop()
        await server.stop()

    threads = [threading.Thread(target=asyncio.run, args=(run(),)), threading.Thread(target=unit.run)]
    for thread in threads:
        thread.start()
    assert ready.wait(10)
    try:
        yield started[0]
    finally:
        started[0].loop.call_soon_threadsafe(stop[0].set)
        threads[0].join()
        unit.stopped.set()
        threads[1].join()
