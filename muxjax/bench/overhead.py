"""What the engine costs beside its programs: host time per step, and tokens/s against the bare programs."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from muxjax.bench.bare import BareDecode
from muxjax.bench.result import Budget, Part, median, median_ratio
from muxjax.bench.settings import Settings
from muxjax.bench.throughput import make_prompts
from muxjax.bench.unit import generate, running_engine, unit_of, warm_up
from muxjax.models.config import DecoderConfig
from muxjax.models.load import load_model
from muxjax.serving.engine import Engine

_LLM = "llm"
_MOST_HOST_SHARE = 0.10
_LEAST_OF_BARE = 0.90


def measure(settings: Settings, model: Path, config: DecoderConfig, tell: Callable[[str], None]) -> Part:
    """Measure every dtype at every batch size."""
    cases, budgets = [], []
    for dtype in settings.dtypes:
        for batch_size in settings.batch_sizes:
            tell(f"overhead, {dtype}, batch of {batch_size}: the engine and its bare programs")
            case = _measure(settings, model, config, dtype, batch_size)
            cases.append({"dtype": dtype, "batch_size": batch_size, **case})
            where = f"{dtype}, batch {batch_size}"
            budgets += [
                Budget(f"host work of a step, {where}", _MOST_HOST_SHARE, case["host_share"], at_least=False),
                Budget(f"engine / bare program, {where}", _LEAST_OF_BARE, case["ratio"], True),
            ]
    return Part({"cases": cases}, tuple(budgets))


def _measure(settings: Settings, model: Path, config: DecoderConfig, dtype: str, batch_size: int) -> dict[str, Any]:
    tokens = settings.prompt_tokens + settings.output_tokens
    spec = unit_of({_LLM: str(model)}, config, dtype=dtype, sequences=batch_size, tokens=tokens)
    prompts = [(_LLM, prompt) for prompt in make_prompts(batch_size, settings.prompt_tokens, config.vocab_size)]
    steps = settings.output_tokens - 1  # the first token is the prefill's
    bare = BareDecode(
        load_model(model, dtype=jnp.dtype(dtype)),
        spec.pool,
        batch_size=batch_size,
        first_length=settings.prompt_tokens,
        steps=steps,
    )
    rounds = []
    with running_engine(spec) as engine:
        warm_up(engine, prompts, settings.output_tokens)
        clock = HostClock(engine)
        for _ in range(settings.rounds):
            clock.restart()
            timing = generate(engine, prompts, settings.output_tokens)
            rounds.append(
                {
                    "engine_tokens_per_second": timing.steady_tokens_per_second,
                    "bare_tokens_per_second": batch_size * steps / bare.seconds(),
                    "host_ms_per_step": clock.seconds_per_step() * 1e3,
                    "host_share": clock.seconds / timing.seconds,
                }
            )
    engine_speed, bare_speed, host_ms, host_share = ([entry[name] for entry in rounds] for name in rounds[0])
    return {
        "engine_tokens_per_second": median(engine_speed),
        "bare_tokens_per_second": median(bare_speed),
        "ratio": median_ratio(engine_speed, bare_speed),
        "host_ms_per_step": median(host_ms),
        "host_share": median(host_share),
        "rounds": rounds,
    }


class HostClock:
    """CPU time of the engine's own thread: scheduling, building inputs, dispatching, booking tokens."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        thread = next(thread for thread in threading.enumerate() if thread.name == "engine")
        self._clock = time.pthread_getcpuclockid(thread.ident or 0)
        self.restart()

    def restart(self) -> None:
        """Count from now on."""
        self._started = time.clock_gettime(self._clock)
        self._steps = self._engine.status().steps

    @property
    def seconds(self) -> float:
        """CPU time since then."""
        return time.clock_gettime(self._clock) - self._started

    def seconds_per_step(self) -> float:
        """On average."""
        return self.seconds / (self._engine.status().steps - self._steps)
