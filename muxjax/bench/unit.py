"""An engine in this process, and requests to it."""

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from muxjax.bench.result import BenchError
from muxjax.bench.timing import Timing
from muxjax.models.config import DecoderConfig
from muxjax.serving.engine import Engine
from muxjax.serving.plan import plan_unit
from muxjax.serving.progress import LLMState, Progress
from muxjax.serving.request import FinishReason, Output, Request, SamplingParams
from muxjax.serving.spec import LLMSpec, PoolSpec, UnitSpec

Prompt = tuple[int, ...]


def unit_of(sources: dict[str, str], config: DecoderConfig, *, dtype: str, sequences: int, tokens: int) -> UnitSpec:
    """LLMs of one shape, and a pool in which so many sequences of each fit twice."""
    pool = PoolSpec(2, dtype=dtype)
    page_tokens = pool.block_elements // (1 << (config.head_dim - 1).bit_length())
    blocks = -(-tokens // page_tokens) * config.num_layers * config.num_kv_heads * sequences * len(sources)
    llms = tuple(LLMSpec(name, source, dtype=dtype, max_sequences=sequences) for name, source in sources.items())
    return UnitSpec(llms, PoolSpec(2 * blocks + 1, dtype=dtype))


@contextmanager
def running_engine(spec: UnitSpec) -> Iterator[Engine]:
    """An engine whose LLMs are all ready. Raises BenchError if one of them cannot be loaded."""
    news: queue.SimpleQueue[Progress] = queue.SimpleQueue()
    engine = Engine(plan_unit(spec), news.put)
    engine.start()
    try:
        ready = 0
        while ready < len(spec.llms):
            progress = news.get()
            if progress.state is LLMState.FAILED:
                raise BenchError(f"{progress.llm} failed to load: {progress.error}")
            ready += progress.state is LLMState.READY
        yield engine
    finally:
        engine.close()


def generate(engine: Engine, prompts: Sequence[tuple[str, Prompt]], max_tokens: int) -> Timing:
    """Submit (LLM, prompt) requests at once and wait for them; greedy, and exactly max_tokens each.

    Raises BenchError if one of them ends otherwise.
    """
    sampling = SamplingParams(temperature=0, max_tokens=max_tokens, ignore_eos=True, seed=0)
    collector = _Collector(len(prompts))
    for index, (llm, prompt) in enumerate(prompts):
        engine.submit(Request(str(index), llm, prompt, sampling), collector.deliver)
    return collector.wait()


def warm_up(engine: Engine, prompts: Sequence[tuple[str, Prompt]], max_tokens: int) -> Timing:
    """Generate once, and let the engine compile in peace what it wanted for that."""
    timing = generate(engine, prompts, max_tokens)
    settle()
    return timing


def settle(period: float = 0.5) -> None:
    """Wait until this process does nothing: until no program is being compiled."""
    busy = period
    while busy > 0.05 * period:
        started = time.process_time()
        time.sleep(period)
        busy = time.process_time() - started


class _Collector:
    """Notes what the engine's thread delivers, and when."""

    def __init__(self, num: int) -> None:
        self._started = time.perf_counter()
        self._timing = Timing([[] for _ in range(num)], [[] for _ in range(num)])
        self._left = num
        self._error: str | None = None
        self._done = threading.Event()

    def deliver(self, outputs: Sequence[Output]) -> None:
        now = time.perf_counter() - self._started
        for output in outputs:
            index = int(output.request_id)
            self._timing.token_ids[index].extend(output.token_ids)
            self._timing.token_times[index].extend([now] * len(output.token_ids))
            if output.finish_reason is not None:
                self._left -= 1
                if output.finish_reason is not FinishReason.LENGTH:
                    self._error = f"a request ended by {output.finish_reason}: {output.error}"
        if self._left == 0:
            self._done.set()

    def wait(self) -> Timing:
        self._done.wait()
        if self._error is not None:
            raise BenchError(self._error)
        return self._timing
