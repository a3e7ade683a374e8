"""Requests over time: random arrivals and lengths, reproducible from a seed."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a workload.

    Attributes:
        arrival: seconds from the start.
        llm: whom it asks.
        prompt_len: tokens of the prompt.
        output_len: tokens of the completion.
    """

    arrival: float
    llm: str
    prompt_len: int
    output_len: int


@dataclass(frozen=True, slots=True)
class Lengths:
    """Gamma-distributed lengths of prompts and completions, like those of conversations.

    Attributes:
        prompt_mean: tokens.
        output_mean: tokens.
        variation: coefficient of variation of both. 1, which is exponential, gives 90th, 95th and 99th percentiles of
            2.3, 3.0 and 4.6 times the mean; those of MuxServe's ChatLMSYS runs are 2.4, 3.0 and 4.0, by the latencies
            of LLMs alone and seldom asked.
        longest: no prompt and no completion has more tokens; LLaMA's context.
    """

    prompt_mean: float = 161.0
    output_mean: float = 337.0
    variation: float = 1.0
    longest: int = 2048

    def draw(self, generator: np.random.Generator, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Lengths of `count` prompts and completions."""
        prompt, output = (self._draw(generator, mean, count) for mean in (self.prompt_mean, self.output_mean))
        return prompt, output

    def _draw(self, generator: np.random.Generator, mean: float, count: int) -> NDArray[np.int64]:
        tokens = gamma(generator, mean, self.variation, count)
        return np.clip(np.rint(tokens), 1, self.longest).astype(np.int64)


def power_law_rates(count: int, alpha: float, highest: float) -> list[float]:
    """rate_i ~ i^-alpha, i from 1, the first one `highest` (MuxServe, section 4.2)."""
    return [highest * rank**-alpha for rank in range(1, count + 1)]


def gaps(generator: np.random.Generator, rate: float, count: int, variation: float = 1.0) -> NDArray[np.float64]:
    """Seconds between arrivals: gamma-distributed with this coefficient of variation; 1 is a Poisson process."""
    return gamma(generator, 1 / rate, variation, count)


def gamma(generator: np.random.Generator, mean: float, variation: float, count: int) -> NDArray[np.float64]:
    """Numbers of this mean and coefficient of variation."""
    return generator.gamma(1 / variation**2, mean * variation**2, count)


def make_requests(
    rates: Mapping[str, float],
    lengths: Mapping[str, Lengths],
    seed: int,
    *,
    duration: float | None = None,
    counts: Mapping[str, int] | None = None,
    variation: float = 1.0,
) -> list[Request]:
    """Requests of all LLMs by arrival: for `duration` seconds, or so many of each LLM as `counts` says.

    Each LLM has random numbers of its own, so that its requests do not depend on the other LLMs.

    Raises:
        ValueError: neither says how many.
    """
    requests: list[Request] = []
    for number, (llm, rate) in enumerate(rates.items()):
        generator = np.random.default_rng((seed, number))
        if counts is not None:
            arrivals = np.cumsum(gaps(generator, rate, counts[llm], variation))
        elif duration is not None:
            expected = rate * duration
            most = int(expected + 10 * (1 + variation) * (expected**0.5 + 1))
            arrivals = np.cumsum(gaps(generator, rate, most, variation))
            arrivals = arrivals[arrivals < duration]
        else:
            raise ValueError("give a duration or counts")
        prompts, outputs = lengths[llm].draw(generator, len(arrivals))
        columns = zip(arrivals.tolist(), prompts.tolist(), outputs.tolist(), strict=True)
        requests += (Request(arrival, llm, prompt, output) for arrival, prompt, output in columns)
    return sorted(requests, key=lambda request: request.arrival)
