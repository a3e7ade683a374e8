"""Several LLMs in one unit, against the same LLMs of the same unit one after another."""

from collections.abc import Callable
from pathlib import Path

from muxjax.bench.result import Budget, Part, median, median_ratio
from muxjax.bench.settings import Settings
from muxjax.bench.throughput import make_prompts
from muxjax.bench.unit import generate, running_engine, unit_of, warm_up
from muxjax.models.config import DecoderConfig

_LEAST_RATIO = 0.90


def measure(settings: Settings, model: Path, config: DecoderConfig, tell: Callable[[str], None]) -> Part:
    """Aggregate tokens/s of both ways, in the first dtype."""
    dtype, requests = settings.dtypes[0], settings.colocated_requests
    names = [f"llm-{index}" for index in range(settings.colocated_llms)]
    tell(f"colocated: {len(names)} LLMs in {dtype}, {requests} requests each, together and one after another")
    tokens = settings.prompt_tokens + settings.output_tokens
    spec = unit_of(dict.fromkeys(names, str(model)), config, dtype=dtype, sequences=requests, tokens=tokens)
    prompts = make_prompts(requests, settings.prompt_tokens, config.vocab_size)
    alone = [[(name, prompt) for prompt in prompts] for name in names]
    together = [request for of_one in zip(*alone, strict=True) for request in of_one]
    num_tokens = len(together) * settings.output_tokens
    rounds = []
    with running_engine(spec) as engine:
        for one in alone:
            warm_up(engine, one, settings.output_tokens)
        warm_up(engine, together, settings.output_tokens)
        for _ in range(settings.rounds):
            in_turn = sum(generate(engine, one, settings.output_tokens).seconds for one in alone)
            at_once = generate(engine, together, settings.output_tokens).seconds
            rounds.append(
                {
                    "colocated_tokens_per_second": num_tokens / at_once,
                    "in_turn_tokens_per_second": num_tokens / in_turn,
                }
            )
    colocated, turns = ([entry[name] for entry in rounds] for name in rounds[0])
    ratio = median_ratio(colocated, turns)
    figures = {
        "dtype": dtype,
        "llms": len(names),
        "requests_each": requests,
        "colocated_tokens_per_second": median(colocated),
        "in_turn_tokens_per_second": median(turns),
        "ratio": ratio,
        "rounds": rounds,
    }
    return Part(figures, (Budget("colocated / one after another", _LEAST_RATIO, ratio, True),))
