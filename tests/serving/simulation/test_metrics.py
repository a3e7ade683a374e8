"""What a simulation says to an operator."""

from math import inf

import pytest

from muxjax.placement.workload import Request
from muxjax.serving.simulation.metrics import attainment, measure
from muxjax.serving.simulation.unit_simulation import Outcome

OUTCOMES = [
    Outcome(Request(0.0, "a", 10, 11), 1.0, 2.0),
    Outcome(Request(1.0, "a", 10, 11), 1.5, 5.0),
    Outcome(Request(2.0, "a", 10, 11), 3.0, inf),
]


def test_throughput_counts_what_finished_until_the_last_one_did():
    metrics = measure(OUTCOMES)
    assert (metrics.requests, metrics.finished) == (3, 2)
    assert metrics.throughput == pytest.approx(2 / 5)
    assert metrics.latency == pytest.approx((2 + 4) / 2)


def test_percentiles_are_of_all_requests_the_unfinished_too():
    metrics = measure(OUTCOMES)
    assert metrics.ttft.p50 == pytest.approx(1.0)
    assert metrics.tpot.p50 == pytest.approx(0.35)
    assert metrics.tpot.p99 == inf


def test_attainment_counts_the_unfinished_as_missed():
    assert attainment(OUTCOMES, [2.0, 3.9, 100.0]) == pytest.approx(1 / 3)
    assert attainment(OUTCOMES, [2.0, 4.0, 100.0]) == pytest.approx(2 / 3)


def test_nothing_sent_is_no_error():
    metrics = measure([])
    assert metrics.throughput == 0
    assert metrics.ttft is metrics.tpot is None
    assert attainment([], []) == 1
