"""The workload of MuxServe's paper, as benchmarks simulate it."""

import pytest

from muxjax.placement.cost.roofline import Roofline
from muxjax.placement.gpus import KNOWN_GPUS
from muxjax.placement.known_models import find_model
from muxjax.placement.solve import solve
from muxjax.serving.simulation.metrics import latency
from muxjax.serving.simulation.power_law import (
    alone,
    latencies_alone,
    make_load,
    placed,
    power_law_problem,
    simulate,
)
from muxjax.serving.simulation.prefill_share import prefill_share

COSTS = Roofline(KNOWN_GPUS["a100-80gb"])


def test_all_systems_get_the_same_requests_and_end_them():
    problem = power_law_problem(2.1, 0.1)
    requests = make_load(problem, duration=5, seed=3)
    assert len(requests) == pytest.approx(5 * sum(llm.rate for llm in problem.llms), rel=0.4)
    for units in (alone(problem), placed(solve(problem, COSTS, "published"))):
        outcomes = list(simulate(units, "muxserve", COSTS, requests))
        assert sorted(map(id, requests)) == sorted(id(outcome.request) for outcome in outcomes)
        assert all(outcome.finished < 100 for outcome in outcomes)


def test_nothing_is_faster_than_alone():
    problem = power_law_problem(2.1, 0.01)
    seconds = latencies_alone(problem, COSTS)
    requests = make_load(problem, duration=20)
    for outcome in simulate(alone(problem), "muxjax", COSTS, requests):
        assert latency(outcome) >= 0.95 * seconds(outcome.request)


def test_small_models_prefill_beside_a_decode_of_thirty_percent():
    shares = [prefill_share(find_model(f"llama-{size}b")) for size in (7, 13, 30, 65)]
    assert shares == [80, 90, 100, 100]
    (unit, *_) = placed(solve(power_law_problem(2.1, 0.1), COSTS, "published"))
    assert all(llm.model.prefill_share == prefill_share(llm.model.shape) for llm in unit.llms.values())
