"""Ways to run steps, each against the plain one: jobs packed into one program, and several decode steps at once."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from muxjax.bench.result import Part, median, median_ratio
from muxjax.bench.settings import Settings
from muxjax.bench.throughput import make_prompts
from muxjax.bench.unit import generate, running_engine, unit_of, warm_up
from muxjax.models.config import DecoderConfig
from muxjax.serving.spec import SchedulingSpec

_WAYS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "packed": {"overlap": "packed"},
        "4 decode steps at once": {"max_decode_steps": 4},
        "16 decode steps at once": {"max_decode_steps": 16},
    }
)
_PLAIN = SchedulingSpec(overlap="interleaved", max_decode_steps=1)


def measure(settings: Settings, model: Path, config: DecoderConfig, tell: Callable[[str], None]) -> Part:
    """Two LLMs, the prompts of each prefilled one by one beside decodes of both; in the first dtype."""
    names = ["a", "b"]
    dtype, requests = settings.dtypes[0], settings.colocated_requests
    tokens = settings.prompt_tokens + settings.output_tokens
    spec = unit_of(
        dict.fromkeys(names, str(model)), config, dtype=dtype, sequences=max(requests // 2, 1), tokens=tokens
    )
    plain = replace(_PLAIN, max_prefill_tokens=max(settings.prompt_tokens, 16))
    prompts = [
        (name, prompt) for prompt in make_prompts(requests, settings.prompt_tokens, config.vocab_size) for name in names
    ]
    cases = []
    for way, changed in _WAYS.items():
        tell(f"steps: {way}, and one program and one step at a time")
        with ExitStack() as stack:
            engines = [
                stack.enter_context(running_engine(replace(spec, scheduling=scheduling)))
                for scheduling in (replace(plain, **changed), plain)
            ]
            for engine in engines:
                for _ in range(3):  # packed programs are compiled one by one, when they are wanted
                    warm_up(engine, prompts, settings.output_tokens)
            rounds = [
                [generate(engine, prompts, settings.output_tokens).tokens_per_second for engine in engines]
                for _ in range(settings.rounds)
            ]
        speeds, plain_speeds = zip(*rounds, strict=True)
        cases.append(
            {
                "way": way,
                "tokens_per_second": median(speeds),
                "plain_tokens_per_second": median(plain_speeds),
                "ratio": median_ratio(speeds, plain_speeds),
                "rounds": rounds,
            }
        )
    return Part({"dtype": dtype, "llms": len(names), "requests_each": requests, "cases": cases}, ())
