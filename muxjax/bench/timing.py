"""When each token of a set of requests arrived, whichever engine made them."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from muxjax.bench.result import median, percentiles


@dataclass(frozen=True, slots=True)
class Timing:
    """One run of requests that were all submitted at once.

    Attributes:
        token_times: for each request, when each of its tokens arrived, in seconds since the first was submitted.
        token_ids: for each request, its tokens.
    """

    token_times: list[list[float]]
    token_ids: list[list[int]]

    @property
    def seconds(self) -> float:
        """Until the last token, prefill included."""
        return max(times[-1] for times in self.token_times)

    @property
    def tokens_per_second(self) -> float:
        """Generated tokens over the whole time."""
        return sum(map(len, self.token_times)) / self.seconds

    @property
    def steady_tokens_per_second(self) -> float:
        """Generated tokens over the time in which all requests decode: no prefill, full batches."""
        begin = max(times[0] for times in self.token_times)
        end = min(times[-1] for times in self.token_times)
        return sum(begin < moment <= end for times in self.token_times for moment in times) / (end - begin)

    def figures(self) -> dict[str, Any]:
        """For JSON: TTFT is the time to a request's first token, ITL the time between two of its tokens."""
        gaps = [later - earlier for times in self.token_times for earlier, later in pairwise(times)]
        return {
            "seconds": self.seconds,
            "tokens_per_second": self.tokens_per_second,
            "ttft_ms": percentiles([times[0] for times in self.token_times]),
            "itl_ms": percentiles(gaps),
        }


def medians(timings: list[Timing]) -> dict[str, Any]:
    """Several rounds' figures in one: medians, percentiles over the tokens of all rounds, and the rounds themselves."""
    together = Timing([times for timing in timings for times in timing.token_times], []).figures()
    rounds = [timing.figures() for timing in timings]
    return {
        "tokens_per_second": median([timing.tokens_per_second for timing in timings]),
        "ttft_ms": together["ttft_ms"],
        "itl_ms": together["itl_ms"],
        "rounds": rounds,
    }
