"""Requests over time, random and recorded."""

import numpy as np
import pytest

from muxjax.placement.replay import replay
from muxjax.placement.trace import TraceRequest
from muxjax.placement.workload import Lengths, make_requests, power_law_rates


def test_rates_and_lengths_come_out_as_asked():
    requests = make_requests({"a": 20.0, "b": 5.0}, dict.fromkeys("ab", Lengths(longest=100_000)), 0, duration=1000)
    for llm, rate in (("a", 20.0), ("b", 5.0)):
        assert sum(request.llm == llm for request in requests) == pytest.approx(1000 * rate, rel=0.05)
    assert np.mean([request.prompt_len for request in requests]) == pytest.approx(161, rel=0.05)
    assert np.mean([request.output_len for request in requests]) == pytest.approx(337, rel=0.05)
    assert requests == sorted(requests, key=lambda request: request.arrival)


def test_the_seed_alone_decides_and_llms_do_not_disturb_one_another():
    alone = make_requests({"a": 2.0}, {"a": Lengths()}, 7, duration=20)
    beside = make_requests({"a": 2.0, "b": 3.0}, dict.fromkeys("ab", Lengths()), 7, duration=20)
    assert alone == [request for request in beside if request.llm == "a"]
    assert alone != make_requests({"a": 2.0}, {"a": Lengths()}, 8, duration=20)


@pytest.mark.parametrize("variation", [0.5, 1.0, 3.0])
def test_gamma_arrivals_have_the_coefficient_of_variation(variation):
    requests = make_requests({"a": 10.0}, {"a": Lengths()}, 1, counts={"a": 20_000}, variation=variation)
    gaps = np.diff([request.arrival for request in requests])
    assert gaps.std() / gaps.mean() == pytest.approx(variation, rel=0.1)


@pytest.mark.parametrize("variation", [0.3, 0.85, 1.0])
def test_lengths_have_the_mean_and_the_variation(variation):
    lengths = Lengths(200, 100, variation, longest=100_000).draw(np.random.default_rng(0), 20_000)
    assert [drawn.mean() for drawn in lengths] == pytest.approx([200, 100], rel=0.03)
    assert [drawn.std() / drawn.mean() for drawn in lengths] == pytest.approx([variation] * 2, rel=0.03)


def test_power_law():
    assert power_law_rates(3, 2.0, 36.0) == pytest.approx([36, 9, 4])


def test_a_trace_is_rescaled_to_the_rates():
    trace = [TraceRequest(number * 0.5, "x" if number % 3 else "y", 10, 20) for number in range(60)]
    requests = replay(trace, {"a": 1.0, "b": 8.0}, duration=50)
    counts = {llm: sum(request.llm == llm for request in requests) for llm in "ab"}
    assert counts["a"] == pytest.approx(50, abs=2)
    assert counts["b"] == pytest.approx(400, abs=4)
    assert all(0 <= request.arrival < 50 for request in requests)
