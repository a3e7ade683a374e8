"""Tokens per second beside other engines: the same weights, prompts, threads and dtype, in turn."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from muxjax.bench.machine import num_threads
from muxjax.bench.result import BenchError, Budget, Part, median_ratio
from muxjax.bench.rival import NAMES, Rival, running_rival
from muxjax.bench.settings import Settings
from muxjax.bench.timing import Timing, medians
from muxjax.bench.unit import Prompt, generate, running_engine, unit_of, warm_up
from muxjax.models.config import DecoderConfig

Tell = Callable[[str], None]
Generate = Callable[[list[Prompt]], Timing]

_OURS = "muxjax"
_REFERENCE = "transformers"
_LEAST_RATIO = 1.3  # where the machine is full
_NEVER_BELOW = 1.0


def measure(settings: Settings, model: Path, config: DecoderConfig, tell: Tell) -> Part:
    """Measure every dtype at every concurrency."""
    figures: dict[str, Any] = {"cases": [], "agreement": {}, "versions": {}, "not_measured": {}}
    for dtype in settings.dtypes:
        with _engines(settings, model, config, dtype, figures) as engines:
            for concurrency in settings.concurrency:
                tell(f"throughput, {dtype}, {concurrency} at once: {', '.join(engines)}")
                prompts = make_prompts(concurrency, settings.prompt_tokens, config.vocab_size)
                figures["cases"].append(
                    {"dtype": dtype, "concurrency": concurrency, **_compare(engines, prompts, settings.rounds)}
                )
            figures["agreement"][dtype] = _agreement(engines, settings, config)
    return Part(figures, tuple(_budgets(figures["cases"], settings)))


def make_prompts(num: int, tokens: int, vocab_size: int) -> list[Prompt]:
    """Random tokens, the same in every run."""
    draw = np.random.default_rng(0)
    return [tuple(draw.integers(0, vocab_size, tokens).tolist()) for _ in range(num)]


@contextmanager
def _engines(
    settings: Settings, model: Path, config: DecoderConfig, dtype: str, figures: dict[str, Any]
) -> Iterator[dict[str, Generate]]:
    """Every engine that there is, ready; notes in `figures` their versions, and why others are missing."""
    tokens = settings.prompt_tokens + settings.output_tokens
    spec = unit_of({_OURS: str(model)}, config, dtype=dtype, sequences=max(settings.concurrency), tokens=tokens)
    with ExitStack() as stack:
        unit = stack.enter_context(running_engine(spec))

        def ours(prompts: list[Prompt]) -> Timing:
            return generate(unit, [(_OURS, prompt) for prompt in prompts], settings.output_tokens)

        for concurrency in settings.concurrency:
            prompts = make_prompts(concurrency, settings.prompt_tokens, config.vocab_size)
            warm_up(unit, [(_OURS, prompt) for prompt in prompts], settings.output_tokens)
        engines: dict[str, Generate] = {_OURS: ours}
        for name in NAMES:
            try:
                if settings.torch_python is None:
                    raise BenchError("no interpreter with PyTorch was given (--torch-python)")
                rival = stack.enter_context(running_rival(name, settings.torch_python, model, dtype, num_threads()))
            except BenchError as error:
                figures["not_measured"][name] = str(error)
                continue
            figures["versions"] |= rival.versions
            engines[name] = _caller(rival, settings.output_tokens)
        yield engines


def _caller(rival: Rival, max_tokens: int) -> Generate:
    return lambda prompts: rival.generate(prompts, max_tokens)


def _compare(engines: dict[str, Generate], prompts: list[Prompt], rounds: int) -> dict[str, Any]:
    """All engines in turn, round by round, after a round that is not counted."""
    timings: dict[str, list[Timing]] = defaultdict(list)
    for number in range(-1, rounds):
        for name, run in engines.items():
            timing = run(prompts)
            if number >= 0:
                timings[name].append(timing)
    speeds = {name: [timing.tokens_per_second for timing in runs] for name, runs in timings.items()}
    return {
        "engines": {name: medians(runs) for name, runs in timings.items()},
        "ratios": {name: median_ratio(speeds[_OURS], speeds[name]) for name in engines if name != _OURS},
    }


def _agreement(engines: dict[str, Generate], settings: Settings, config: DecoderConfig) -> dict[str, int]:
    """How many of one prompt's tokens are the same as ours, counted from the first one."""
    prompts = make_prompts(1, settings.prompt_tokens, config.vocab_size)
    token_ids = {name: run(prompts).token_ids[0] for name, run in engines.items()}
    ours = token_ids.pop(_OURS)
    return {
        name: next(
            (index for index, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]), len(ours)
        )
        for name, theirs in token_ids.items()
    }


def _budgets(cases: list[dict[str, Any]], settings: Settings) -> Iterator[Budget]:
    for case in cases:
        is_full = case["concurrency"] == max(settings.concurrency) > 1
        yield Budget(
            f"tokens/s / {_REFERENCE}', {case['dtype']}, {case['concurrency']} at once",
            _LEAST_RATIO if is_full else _NEVER_BELOW,
            case["ratios"].get(_REFERENCE),
            at_least=True,
        )
