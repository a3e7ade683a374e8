"""A whole unit: the same tokens however jobs run, the load of several LLMs beside time slices, and how it starts."""

import json
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from muxjax.bench.gpu.scale import Fields, Load, Scale
from muxjax.bench.isolated import Case
from muxjax.bench.throughput import make_prompts
from muxjax.bench.unit import Prompt, generate, running_engine, settle, unit_of, warm_up
from muxjax.models.load import load_config
from muxjax.serving.engine import Engine
from muxjax.serving.request import Output, Request, SamplingParams
from muxjax.serving.spec import Overlap, UnitSpec

_SAME_REQUESTS = 4


def correctness(scale: Scale, folder: Path) -> Iterator[Case]:
    """Two LLMs' greedy tokens: packed, interleaved and each alone."""
    yield Case({"check": "packed = interleaved = alone"}, partial(_same_tokens, scale, folder))


def _same_tokens(scale: Scale, folder: Path) -> dict[str, Any]:
    load = scale.load
    spec = _spec(folder, (scale.same, scale.same), load, "same", dtype="float32")
    names = [llm.name for llm in spec.llms]
    prompts = make_prompts(2 * _SAME_REQUESTS, load.prompt_tokens, int(str(scale.same["vocab_size"])))
    requests = [(names[index % 2], prompt) for index, prompt in enumerate(prompts)]
    overlaps: tuple[Overlap, ...] = ("interleaved", "packed")
    found: list[list[list[int]]] = []
    for overlap in overlaps:
        with running_engine(_overlapping(spec, overlap)) as engine:
            warm_up(engine, requests, load.output_tokens)
            found.append(generate(engine, requests, load.output_tokens).token_ids)
            alone = [generate(engine, [request], load.output_tokens).token_ids[0] for request in requests]
    different = sum(one != own for tokens in found for one, own in zip(tokens, alone, strict=True))
    return {"is_right": different == 0, "largest_error": float(different), "compared": 2 * len(requests)}


def served(scale: Scale, folder: Path) -> Iterator[Case]:
    """Requests within their objectives, at every rate, while LLMs share the device and while they take turns."""
    load = scale.load
    spec = _spec(folder, load.llms, load, "served")
    for overlap in load.overlaps:
        with running_engine(_overlapping(spec, overlap)) as engine:
            names = [llm.name for llm in spec.llms]
            alone = _warm(engine, names, load)
            for rate in load.rates:
                arrivals = _arrivals(load, names, rate)
                yield Case(
                    {"served": f"together, {overlap}", "rate": rate}, partial(_serve, engine, arrivals, load, alone)
                )
                if overlap == "interleaved":
                    turns = partial(_serve, engine, arrivals, load, alone, in_turns=True)
                    yield Case({"served": "in time slices", "rate": rate}, turns)


def started(scale: Scale, folder: Path, state: str) -> Iterator[Case]:
    """Seconds until the unit's LLMs are ready; `state` is that of the compile cache."""
    yield Case({"start": f"{state} compile cache"}, partial(_start, scale, folder))


def _start(scale: Scale, folder: Path) -> dict[str, Any]:
    from muxjax.compile_cache import keep_compiled_programs

    keep_compiled_programs(folder / "cache")
    begun = time.perf_counter()
    with running_engine(_spec(folder, scale.load.llms, scale.load, "started")):
        return {"seconds": time.perf_counter() - begun}


def _spec(folder: Path, shapes: Sequence[Fields], load: Load, name: str, dtype: str = "bfloat16") -> UnitSpec:
    """A unit of LLMs of one shape, by their configurations in the folder."""
    sources = {}
    for index, fields in enumerate(shapes):
        path = folder / f"{name}-{index}.json"
        path.write_text(json.dumps(dict(fields)))
        sources[f"llm-{index}"] = f"random:{path}"
    config = load_config(sources["llm-0"])
    tokens = load.prompt_tokens + load.output_tokens
    return unit_of(sources, config, dtype=dtype, sequences=load.sequences, tokens=tokens)


def _overlapping(spec: UnitSpec, overlap: Overlap) -> UnitSpec:
    """The unit, its steps run in this way."""
    return replace(spec, scheduling=replace(spec.scheduling, overlap=overlap))


@dataclass(frozen=True, slots=True)
class _Arrival:
    at: float
    llm: str
    prompt: Prompt


def _arrivals(load: Load, names: Sequence[str], rate: float) -> list[_Arrival]:
    """A Poisson process, seeded: the same for every way to serve it."""
    rng = np.random.default_rng(0)
    count = max(1, round(rate * load.seconds))
    times = np.cumsum(rng.exponential(1 / rate, count))
    llms = rng.choice(len(names), count, p=load.popularity)
    prompts = make_prompts(count, load.prompt_tokens, int(str(load.llms[0]["vocab_size"])))
    return [_Arrival(float(at), names[llm], prompt) for at, llm, prompt in zip(times, llms, prompts, strict=True)]


def _warm(engine: Engine, names: Sequence[str], load: Load) -> float:
    """Run every kind of step once; returns what a request takes by itself."""
    prompts = make_prompts(load.sequences, load.prompt_tokens, int(str(load.llms[0]["vocab_size"])))
    for count in {load.sequences, min(8, load.sequences), 1}:
        warm_up(engine, [(name, prompt) for name in names for prompt in prompts[:count]], load.output_tokens)
    settle()
    return generate(engine, [(names[0], prompts[0])], load.output_tokens).seconds


def _serve(
    engine: Engine, arrivals: Sequence[_Arrival], load: Load, alone: float, *, in_turns: bool = False
) -> dict[str, Any]:
    """Submit requests when they arrive, or when it is their LLM's turn; latency counts from the arrival."""
    clock = _Latencies(len(arrivals))
    waiting: deque[int] = deque(range(len(arrivals)))
    turns = list(dict.fromkeys(arrival.llm for arrival in arrivals))
    due: list[int] = []
    turn = 0
    while clock.left or waiting or due:
        now = clock.now()
        while waiting and arrivals[waiting[0]].at <= now:
            due.append(waiting.popleft())
        is_mine = {index: arrivals[index].llm == turns[turn] or not in_turns for index in due}
        is_over = in_turns and (
            now > clock.slice_began + load.slice_seconds
            or (bool(due) and not clock.running and not any(is_mine.values()))  # others wait, and this one has nothing
        )
        mine = [index for index in due if is_mine[index] and not is_over]
        for index in mine:
            clock.submit(engine, index, arrivals[index], load.output_tokens)
        due = [index for index in due if index not in mine]
        if is_over and not clock.running:
            turn, clock.slice_began = (turn + 1) % len(turns), now
        time.sleep(0.001)
    latencies = np.array(clock.latencies) - [arrival.at for arrival in arrivals]
    within = latencies <= load.slo_scale * alone
    span = max(clock.latencies)
    return {
        "requests": len(arrivals),
        "within_slo": float(within.mean()),
        "goodput": float(within.sum() / span),
        "p50_s": float(np.median(latencies)),
        "p99_s": float(np.percentile(latencies, 99)),
        "tokens_per_second": len(arrivals) * load.output_tokens / span,
    }


class _Latencies:
    """When each request ended, in seconds from the beginning."""

    def __init__(self, count: int) -> None:
        self._began = time.perf_counter()
        self.latencies = [0.0] * count
        self.left = count
        self.running = 0
        self.slice_began = 0.0

    def now(self) -> float:
        return time.perf_counter() - self._began

    def submit(self, engine: Engine, index: int, arrival: _Arrival, max_tokens: int) -> None:
        sampling = SamplingParams(temperature=0, max_tokens=max_tokens, ignore_eos=True, seed=0)
        self.running += 1
        engine.submit(Request(str(index), arrival.llm, arrival.prompt, sampling), self._deliver)

    def _deliver(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            if output.finish_reason is not None:
                self.latencies[int(output.request_id)] = self.now()
                self.left -= 1
                self.running -= 1
