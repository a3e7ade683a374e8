"""The benchmark of steps and units on a CPU: every line of it runs; and what its targets compare."""

import json
import pickle

import pytest

from muxjax.bench.gpu.__main__ import main
from muxjax.bench.gpu.scale import FULL
from muxjax.bench.gpu.sections import sections
from muxjax.bench.gpu.targets import budgets, goodput_ratio, of_floor, speedup
from muxjax.bench.kernels.targets import Ceilings


def test_smoke(tmp_path, capsys):
    assert main(["--smoke", "--output", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "cpu-gpu.json").read_text())
    failed = {name for name, part in results["parts"].items() if any("error" in case for case in part["cases"])}
    assert failed <= {"transformers"}  # which the tests' environment lacks
    assert all(part["cases"] for part in results["parts"].values())
    assert "packed = interleaved = alone" in capsys.readouterr().out


def test_a_full_run_can_be_sent_to_other_processes_and_ends_in_time(tmp_path):
    plan = sections(FULL, tmp_path)
    pickle.dumps(plan)
    assert sum(max(section.seconds for section in together) for together in plan) < 9 * 60


def test_a_decode_is_measured_by_its_bytes_and_a_prefill_by_its_products():
    ceilings = Ceilings(copy_gb_per_s=1000.0, tflop_per_s=500.0)
    assert of_floor({"us": 2000.0, "bytes": 10**9}, ceilings) == pytest.approx(2)
    assert of_floor({"us": 1000.0, "operations": 25e10}, ceilings) == pytest.approx(0.5)
    assert of_floor({"us": 1000.0, "bytes": 1}, Ceilings(None, None)) is None


def pair(mode, us, name="a"):
    return {"pair": name, "mode": mode, "us": us}


def test_the_best_mode_of_the_worst_pair_decides():
    cases = [pair("interleaved", 120.0), pair("packed", 100.0), pair("packed, concurrent command buffers", 80.0)]
    cases += [pair("interleaved", 120.0, "b"), pair("packed", 100.0, "b")]
    assert speedup(cases[2], cases) == pytest.approx(1.5)
    packed = {budget.name: budget for budget in budgets(cases)}["packed, times interleaved, the worst pair"]
    assert packed.measured == pytest.approx(1.2)


def test_loads_are_compared_each_at_its_best_rate():
    together = [{"served": "together, packed", "goodput": goodput} for goodput in (4.0, 9.0)]
    slices = [{"served": "in time slices", "goodput": goodput} for goodput in (6.0, 2.0)]
    assert goodput_ratio([*together, *slices]) == pytest.approx(1.5)
    assert goodput_ratio(together) is None


def test_what_was_not_measured_is_neither_met_nor_missed():
    assert {budget.met for budget in budgets([])} == {None}
