"""The kernels' benchmark on a CPU: every line of it runs, and says what a GPU's run would say."""

import json
import pickle

import pytest

from benchmarks.performance_page import replace_figures
from muxjax.bench.kernels.__main__ import main
from muxjax.bench.kernels.scale import FULL
from muxjax.bench.kernels.sections import sections
from muxjax.bench.kernels.targets import budgets, marks
from muxjax.pallas_kernels.grouped_matmul import api as grouped_matmul
from muxjax.pallas_kernels.paged_decode import api as paged_decode
from muxjax.pallas_kernels.pool_write import api as pool_write
from muxjax.pallas_kernels.ragged_prefill import api as ragged_prefill

NOT_HERE = {"cuDNN", "torch"}


def test_smoke(tmp_path, capsys):
    assert main(["--smoke", "--output", str(tmp_path)]) == 0
    results = json.loads((tmp_path / "cpu-kernels.json").read_text())
    cases = [case for part in results["parts"].values() for case in part["cases"]]
    failed = {name for name, part in results["parts"].items() if any("error" in case for case in part["cases"])}
    assert failed <= NOT_HERE, [case for case in cases if "error" in case]
    for module in (paged_decode, ragged_prefill, pool_write, grouped_matmul):
        own = [case for case in cases if case.get("operation") == module.__name__.split(".")[-2]]
        for implementation in {"mosaic", "triton"} & set(module.IMPLEMENTATIONS):
            [check] = [case for case in own if "check" in case and case["implementation"] == implementation]
            assert check["is_right"]
            assert any("shape" in case for case in own if case["implementation"] == implementation)
    shown = capsys.readouterr().out
    assert "paged_decode" in shown
    assert "cpu-kernels.json" in shown


def test_a_full_run_can_be_sent_to_other_processes_and_ends_in_time():
    plan = sections(FULL)
    pickle.dumps(plan)
    assert sum(max(section.seconds for section in together) for together in plan) < 6 * 60


def test_without_a_gpu_it_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert main(["--output", str(tmp_path)]) == 2
    assert "there is no GPU here" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


COPY = {"what": "copy", "us": 1.0, "gb_per_s": 3000.0}
MATMUL = {"what": "matmul", "us": 1.0, "tflop_per_s": 600.0}


def decode(implementation, us, rate, batch=32, context=2048, **others):
    shape = f"batch {batch}, context {context}"
    labels = {"operation": "paged_decode", "implementation": implementation, "shape": shape}
    return {**labels, "batch": batch, "context": context, "us": us, "gb_per_s": rate, **others}


def test_decode_is_judged_by_the_bandwidth_and_by_the_fastest_setting_of_upstream():
    ours = decode("triton", 100.0, 2700.0)
    rivals = [decode("jax paged_attention", us, 1.0, setting=f"{us}") for us in (180.0, 150.0)]
    found = {mark.what: mark for mark in marks(ours, [COPY, MATMUL, ours, *rivals])}
    assert found["of copy bandwidth"].measured == pytest.approx(0.9)
    assert found["x upstream's speed"].measured == pytest.approx(1.5)


def test_small_batches_and_what_nothing_can_be_compared_with_have_no_targets():
    small = decode("triton", 100.0, 100.0, batch=8)
    alone = decode("triton", 100.0, 100.0)
    assert list(marks(small, [COPY, small])) == []
    assert list(marks(alone, [alone])) == []


def test_experts_of_few_tokens_are_judged_by_the_bandwidth_and_of_many_by_products():
    labels = {"operation": "grouped_matmul", "implementation": "triton"}
    few = {**labels, "shape": "few", "tokens": 64, "us": 100.0, "gb_per_s": 2400.0}
    many = {**labels, "shape": "many", "tokens": 2048, "us": 100.0, "tflop_per_s": 300.0}
    cases = [COPY, MATMUL, few, many, {**many, "implementation": "xla", "us": 400.0}]
    assert {mark.what: mark.measured for mark in marks(few, cases)} == {"of copy bandwidth": pytest.approx(0.8)}
    found = {mark.what: mark.measured for mark in marks(many, cases)}
    assert found == {"of XLA's dense products": pytest.approx(0.5), "x XLA's speed": pytest.approx(4.0)}
    assert list(marks({**few, "tokens": 1}, cases)) == []


def test_the_worst_case_decides():
    cases = [
        COPY,
        {"operation": "paged_decode", "implementation": "triton", "check": "a", "is_right": True},
        {"operation": "paged_decode", "implementation": "triton", "check": "b", "error": "it crashed"},
        decode("triton", 100.0, 2700.0),
        decode("triton", 100.0, 2400.0, batch=64),
        decode("triton", 1.0, 9999.0, setting="of the sweep"),
    ]
    right, bandwidth, upstream = budgets(cases)
    assert (right.measured, right.met) == (0.5, False)
    assert (bandwidth.measured, bandwidth.met) == (pytest.approx(0.8), False)
    assert (upstream.measured, upstream.met) == (None, None)


def test_figures_replace_what_the_page_said_of_the_same_benchmark_only():
    page = (
        "a\n<!-- kernels: begin -->\nnot measured\n<!-- kernels: end -->\n<!-- cpu: begin -->\nold\n<!-- cpu: end -->\n"
    )
    new = replace_figures(page, "kernels", "| new |")
    assert "not measured" not in new
    assert "<!-- kernels: begin -->\n| new |\n<!-- kernels: end -->" in new
    assert "<!-- cpu: begin -->\nold\n<!-- cpu: end -->" in new
