"""The benchmark on tiny shapes: every part runs, and its JSON says what tables and docs need. No time is judged."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from muxjax.bench.__main__ import main
from muxjax.bench.checkpoint import write_checkpoint
from muxjax.bench.result import BenchError, Budget
from muxjax.bench.rival import running_rival
from muxjax.bench.run import run
from muxjax.bench.settings import LLAMA_125M, Settings
from muxjax.bench.tables import markdown, sheets
from muxjax.bench.timing import Timing
from muxjax.models.config_fields import ConfigFields
from muxjax.models.load import load_model
from muxjax.models.registry import find_architecture

TINY = {
    **LLAMA_125M,
    "vocab_size": 131,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 128,
}
TINY_SETTINGS = Settings(
    model=TINY,
    dtypes=("float32",),
    concurrency=(1, 3),
    batch_sizes=(2,),
    colocated_llms=2,
    colocated_requests=2,
    prompt_tokens=9,
    output_tokens=6,
    rounds=2,
    schedule_steps=5,
    schedule_llms=2,
    schedule_sequences=8,
    torch_python=Path(sys.executable),  # which has neither of the other engines
)
ORACLE_PYTHON = Path(__file__).parents[2] / ".venv-oracle/bin/python"


def measure(part, settings=TINY_SETTINGS):
    kept = []
    run((part,), settings, lambda words: None, lambda results: kept.append(json.loads(json.dumps(results))))
    [results] = kept
    assert results["machine"]["cores"] >= 1
    assert results["settings"]["prompt_tokens"] == settings.prompt_tokens
    assert results.get("parameters", 103_104) == 103_104
    assert all(budget["met"] in (True, False, None) for budget in results["budgets"])
    assert markdown(sheets(results)).startswith("### ")
    return results["parts"][part], results["budgets"]


def test_the_model_has_as_many_parameters_as_its_docstring_says():
    config = find_architecture("LlamaForCausalLM").read_config(ConfigFields(LLAMA_125M))
    assert config.num_parameters == 134_105_856
    assert config.num_parameters - 2 * config.vocab_size * config.hidden_size - config.hidden_size == 84_953_088


def test_the_checkpoint_holds_the_random_weights_in_hugging_faces_layout(tmp_path):
    write_checkpoint(tmp_path, TINY)
    tokens, positions = jnp.arange(7), jnp.arange(7)

    def logits(source):
        decoder = load_model(source, dtype=jnp.float32).decoder
        return np.asarray(decoder.logits(decoder(tokens, positions, lambda queries, keys, values, **_: queries)[0]))

    np.testing.assert_array_equal(logits(tmp_path), logits(f"random:{tmp_path / 'config.json'}"))


def test_throughput_without_other_engines_says_what_is_missing():
    figures, budgets = measure("throughput")
    assert [case["concurrency"] for case in figures["cases"]] == [1, 3]
    for case in figures["cases"]:
        assert set(case["engines"]) == {"muxjax"}
        assert len(case["engines"]["muxjax"]["rounds"]) == 2
        assert set(case["engines"]["muxjax"]["ttft_ms"]) == {"p50", "p90", "p99"}
    assert "torch" in figures["not_measured"]["transformers"]
    assert "llama_cpp" in figures["not_measured"]["llama.cpp"]
    assert [budget["met"] for budget in budgets] == [None, None]


def test_overhead_compares_the_engine_with_its_bare_programs():
    figures, budgets = measure("overhead")
    [case] = figures["cases"]
    assert case["bare_tokens_per_second"] > 0
    assert case["ratio"] > 0
    assert case["host_ms_per_step"] > 0
    assert len(case["rounds"]) == 2
    assert [budget["measured"] for budget in budgets] == [case["host_share"], case["ratio"]]


def test_colocated_llms_run_together_and_in_turn():
    figures, [budget] = measure("colocated")
    assert figures["llms"] == 2
    assert budget["measured"] == figures["ratio"] > 0


def test_steps_compares_every_way_with_the_plain_one():
    figures, _ = measure("steps", replace(TINY_SETTINGS, rounds=1))
    assert [case["way"] for case in figures["cases"]] == ["packed", "4 decode steps at once", "16 decode steps at once"]
    assert all(case["ratio"] > 0 for case in figures["cases"])


def test_schedule_measures_every_policy():
    figures, budgets = measure("schedule")
    assert {case["policy"] for case in figures["cases"]} == {"adbs", "fcfs", "round_robin"}
    assert len(budgets) == len(figures["cases"])


def test_startup_serves_twice_from_one_cache(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    config = tmp_path / "serve.yaml"
    config.write_text("llms: {tiny: 'random:config.json'}\npool: {memory: 16MiB}\n")
    settings = replace(TINY_SETTINGS, rounds=1, serve_config=config)
    figures, budgets = measure("startup", settings)
    [started] = figures["rounds"]
    for milestones in started.values():
        assert 0 < milestones["listening"] < milestones["ready"]["tiny"] <= milestones["serving"]
    assert len(budgets) == 2


def test_frontends_stream_from_a_unit_that_costs_nothing():
    settings = replace(TINY_SETTINGS, rounds=1, frontend_streams=3, frontend_tokens=20)
    figures, budgets = measure("frontends", settings)
    assert [case["protocol"] for case in figures["cases"]] == ["native", "open_inference", "http"]
    assert all(case["full"][0]["tokens"] == 60 and case["p99_ms"] > 0 for case in figures["cases"])
    assert len(budgets) == 6


def test_checkpoint_reads_in_processes_of_their_own():
    figures, budgets = measure("checkpoint", replace(TINY_SETTINGS, rounds=1, checkpoint_layers=1))
    layouts = {case["layout"] for case in figures["cases"]}
    assert layouts == {"one file", "4 files", "fused", "Orbax"}
    assert {case["dtype"] for case in figures["cases"]} == {"float32", "bfloat16", "float16", "int8"}
    assert [case["to"] for case in figures["conversions"]] == ["Orbax", "safetensors"]
    measured = figures["cases"] + figures["conversions"]
    assert all(case["gb_per_second"] > 0 and case["peak_memory"] > 0.9 for case in measured)
    assert len(budgets) == 5 + len(figures["cases"])


@pytest.mark.slow
def test_quantization_compares_every_demo_model_with_itself():
    figures, _ = measure("quantization", replace(TINY_SETTINGS, rounds=1, quality_texts=1))
    assert [model["model"] for model in figures["models"]] == ["arithmetic", "code", "prose"]
    for model in figures["models"]:
        assert 0.98 < model["perplexity_ratio"] < 1.02
        assert 0 < model["mean_logit_error"] < model["max_logit_error"] < 2
        assert model["memory_ratio"] < 0.3
    assert [case["batch"] for case in figures["decode"]] == [1, 2]


def test_other_engines_choose_the_same_tokens():
    if not ORACLE_PYTHON.exists():
        pytest.skip("no interpreter with PyTorch and transformers: `make oracle` makes one")
    settings = replace(TINY_SETTINGS, concurrency=(2,), rounds=1, torch_python=ORACLE_PYTHON)
    figures, [budget] = measure("throughput", settings)
    agreement = figures["agreement"]["float32"]
    assert agreement["transformers"] == settings.output_tokens
    assert agreement.get("llama.cpp", settings.output_tokens) == settings.output_tokens
    [case] = figures["cases"]
    assert case["ratios"].keys() == agreement.keys()
    assert budget["measured"] == case["ratios"]["transformers"]


def test_an_interpreter_that_cannot_be_started_is_an_error_that_says_so(tmp_path):
    missing = running_rival("transformers", tmp_path / "no-python", tmp_path, "float32", 1)
    with pytest.raises(BenchError, match="cannot be started"), missing:
        pytest.fail("it runs")


def test_timing_counts_prefill_in_and_steady_decoding_apart():
    timing = Timing([[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]], [[], []])
    assert timing.tokens_per_second == 6 / 4
    assert timing.steady_tokens_per_second == 2 / 1
    assert timing.figures()["ttft_ms"]["p50"] == 1500


@pytest.mark.parametrize(("measured", "met"), [(1.5, True), (1.0, True), (0.9, False), (None, None)])
def test_a_budget_that_could_not_be_measured_is_neither_met_nor_missed(measured, met):
    assert Budget("speed", 1.0, measured, at_least=True).met is met


def test_the_command_writes_its_figures_and_shows_them(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("muxjax.compile_cache.keep_compiled_programs", lambda folder: None)  # the tests have their own
    output = tmp_path / "results" / "bench.json"
    assert main(["schedule", "--quick", "--output", str(output)]) == 0
    assert json.loads(output.read_text())["parts"].keys() == {"schedule"}
    assert "round_robin" in capsys.readouterr().out


def test_an_unknown_part_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["speed"])
    assert "there is no part speed: choose from throughput" in capsys.readouterr().err
