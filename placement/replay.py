"""A trace's arrivals, given to the LLMs of a placement."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle

from muxjax.placement.trace import TraceRequest
from muxjax.placement.workload import Request


def replay(requests: Sequence[TraceRequest], rates: Mapping[str, float], duration: float) -> list[Request]:
    """Give a trace's requests to LLMs: so many a second of each as its rate, for `duration` seconds.

    The trace's models, the most popular first, stand for the LLMs in the order of their rates; where there are fewer,
    they serve several. Each LLM replays the arrivals of its model, sped up or slowed down to its rate.
    """
    by_model: dict[str, list[TraceRequest]] = {}
    for request in requests:
        by_model.setdefault(request.model, []).append(request)
    models = sorted(by_model.values(), key=len, reverse=True)
    assigned: list[Request] = []
    for llm, model in zip(sorted(rates, key=lambda name: -rates[name]), cycle(models), strict=False):
        assigned += _replay_one(llm, model, rates[llm], duration)
    return sorted(assigned, key=lambda request: request.arrival)


def _replay_one(llm: str, model: Sequence[TraceRequest], rate: float, duration: float) -> Iterator[Request]:
    span = max(model[-1].arrival - model[0].arrival, 1e-9) * (1 + 1 / len(model))
    pace = len(model) / span / rate
    for number in range(round(rate * duration)):
        round_number, index = divmod(number, len(model))
        request = model[index]
        arrival = (request.arrival - model[0].arrival + round_number * span) * pace
        if arrival < duration:
            yield Request(arrival, llm, max(1, round(request.prompt_len)), max(1, round(request.output_len)))
