"""Rates over time, in the format of ServeGen's aggregated traces."""

import json
from pathlib import Path

import pytest

from muxjax.placement.errors import PlacementError
from muxjax.placement.rate_curve import follow_curves, has_curves, read_curves
from muxjax.placement.trace import read_loads
from muxjax.placement.workload import Lengths

RATES = {"large": [4, 4, 16, 8], "small": [2, 2, 2, 2]}
SERVEGEN = Path(__file__).parents[3] / "shared/data/traces/servegen_rates.json"


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "rates.json"
    models = {
        name: {"window_s": 600, "total_rate_per_window": [[600 * n, rate] for n, rate in enumerate(rates)]}
        for name, rates in RATES.items()
    }
    path.write_text(json.dumps({"source": "a test", "models": models}))
    return path


def test_a_models_load_is_its_mean_rate_without_lengths(trace):
    loads = read_loads(trace)
    assert {name: load.rate for name, load in loads.items()} == {"large": 8, "small": 2}
    assert loads["large"].prompt_len == loads["large"].output_len == 0


def test_requests_follow_the_curves_at_the_rates_that_are_asked_for(trace):
    curves, lengths = read_curves(trace), dict.fromkeys(("popular", "small"), Lengths(100, 50))
    requests = follow_curves(curves, {"popular": 20.0, "small": 5.0}, lengths, duration=400, seed=0)
    assert [request.arrival for request in requests] == sorted(request.arrival for request in requests)
    popular = [request.arrival for request in requests if request.llm == "popular"]
    quarters = [sum(100 * n <= arrival < 100 * (n + 1) for arrival in popular) for n in range(4)]
    for count, rate in zip(quarters, RATES["large"], strict=True):
        assert count == pytest.approx(20 / 8 * rate * 100, rel=0.1)
    assert sum(request.llm == "small" for request in requests) == pytest.approx(2000, rel=0.1)
    assert requests == follow_curves(curves, {"popular": 20.0, "small": 5.0}, lengths, duration=400, seed=0)


@pytest.mark.parametrize(
    ("windows", "words"),
    [
        (None, "must be a list of at least two"),
        ([[0, 1], [600, -1]], "models.bad.total_rate_per_window.1: must be [second, requests/s] from 0"),
        ([[0, 1], [600, 2], [900, 3]], "must follow one another and be equally long"),
        ([[0, 0], [600, 0]], "all rates are 0"),
    ],
)
def test_what_is_wrong_is_said_with_its_path(tmp_path, windows, words):
    path = tmp_path / "rates.json"
    path.write_text(json.dumps({"models": {"bad": {"total_rate_per_window": windows}}}))
    with pytest.raises(PlacementError) as refused:
        read_loads(path)
    assert words in str(refused.value)


def test_a_list_of_requests_has_no_curves(tmp_path):
    path = tmp_path / "requests.json"
    path.write_text('{"requests": []}')
    assert not has_curves(path)


@pytest.mark.skipif(not SERVEGEN.exists(), reason="ServeGen's rates are not here")
def test_servegens_rates_can_be_read():
    assert read_loads(SERVEGEN)["language/m-large"].rate > 100
