"""The runs that MuxServe's authors measured."""

import json

import pytest

from muxjax.serving.simulation.measured import read_measured


@pytest.mark.parametrize(("latency", "limited"), [(100.0, True), (300.0, False)])
def test_a_run_that_held_more_sequences_than_the_configured_limit_had_another(tmp_path, latency, limited):
    llm = {"model": "llama-7b", "dev": "mesh1idx0", "tpt": 2.0, "n": 40, "avg_latency_s": latency, "avg_ttft_s": 1.0}
    cases = {"0.7_1.0": {"rates": {"a": 3.0}, "systems": {"temporal": {"llms": {"a": llm}}}}}
    (tmp_path / "runs.json").write_text(json.dumps({"cases": cases}))
    (run,) = read_measured(tmp_path)
    assert run.is_limited is limited


def test_what_a_units_processes_take_is_not_left_for_keys_and_values(tmp_path):
    llms = {name: {"model": "llama-7b", "dev": "mesh2idx0", "tpt": 1.0, "n": 4} for name in "ab"}
    cases = {"0.7_1.0": {"rates": {"a": 3.0, "b": 1.0}, "systems": {"muxserve": {"llms": llms}}}}
    (tmp_path / "runs.json").write_text(json.dumps({"cases": cases}))
    (run,) = read_measured(tmp_path)
    assert run.kv_gb("mesh2idx0") == pytest.approx(2 * (80 - 2 * 7.6) - 2 * 14)
