"""`python -m muxjax.simulate`, as an operator uses it."""

import json
from pathlib import Path

import pytest

from muxjax.placement.placement import PlacedLLM, PlacedUnit, Placement
from muxjax.placement.placement_file import write_placement
from muxjax.simulate.__main__ import main
from tests.muxjax.terminals import said_into_a_pipe, said_on_a_terminal

MEASURED = Path(__file__).parents[4] / "shared/data/measured"


@pytest.fixture
def cost(tmp_path) -> Path:
    """Latencies of LLaMA-7B on one GPU."""
    lengths = {length: {"prefill": 20 + length / 10, "decoding": 15} for length in (32, 512)}
    path = tmp_path / "cost.json"
    path.write_text(json.dumps({"llama-7b": {"1": {share: {"1": lengths, "128": lengths} for share in (50, 100)}}}))
    return path


@pytest.fixture
def placement(tmp_path) -> Path:
    llms = tuple(
        PlacedLLM(name, "llama-7b", rate, 1, 50, 8, rate, 50.0, 60.0, slo=slo)
        for name, rate, slo in (("chat", 2.0, 30.0), ("code", 0.5, None))
    )
    path = tmp_path / "placement.yaml"
    write_placement(Placement("best", 0.1, 2.5, 1.0, 2.5, (PlacedUnit(0, (0,), 80.0, llms),)), path)
    return path


@pytest.mark.parametrize("system", ["muxserve", "temporal", "muxjax"])
def test_throughput_and_latencies_of_a_placement(placement, cost, capsys, system):
    arguments = [str(placement), "--cost", str(cost), "--duration", "20", "--system", system]
    assert main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result["llms"]) == {"chat", "code"}
    assert (
        result["total"]["finished"]
        == result["total"]["requests"]
        == sum(llm["requests"] for llm in result["llms"].values())
    )
    assert result["llms"]["chat"]["requests"] > result["llms"]["code"]["requests"] > 0
    assert result["llms"]["chat"]["slo_met"] == 1
    assert result["llms"]["code"]["slo_met"] is None
    assert 0.02 < result["total"]["ttft_s"]["p50"] < result["total"]["ttft_s"]["p99"]
    assert main(arguments) == 0
    assert "chat" in capsys.readouterr().out


def test_the_load_can_be_scaled_or_come_from_a_trace(placement, cost, tmp_path, capsys):
    trace = tmp_path / "trace.jsonl"
    trace.write_text("".join(f'{{"timestamp": {1000 * t}, "input_length": 9, "output_length": 8}}\n' for t in range(9)))
    arguments = [str(placement), "--cost", str(cost), "--duration", "20", "--scale", "3", "--json"]
    assert main([*arguments, "--trace", str(trace)]) == 0
    assert json.loads(capsys.readouterr().out)["total"]["requests"] == pytest.approx(150, abs=4)


def test_without_a_table_a_roofline_says_what_jobs_take(placement, capsys):
    seconds = []
    for gpu in ("a100-80gb", "h100-80gb"):
        assert main([str(placement), "--duration", "10", "--gpu", gpu, "--json"]) == 0
        seconds.append(json.loads(capsys.readouterr().out)["total"]["tpot_s"]["p50"])
    assert seconds[1] < seconds[0] < 0.1


def bad_inputs(placement: Path, cost: Path, folder: Path):
    holes = folder / "holes.json"
    entry = {"1": {"32": {"prefill": -1, "decoding": -1}}}
    holes.write_text(json.dumps({"llama-7b": {"1": {"100": entry}}}))
    empty = folder / "empty"
    empty.mkdir()
    broken = folder / "broken"
    broken.mkdir()
    (broken / "runs.json").write_text('{"cases": {"x": {"rates": {}, "systems": {"spatial": {"llms": {"a": {}}}}}}}')
    unknown = folder / "unknown.yaml"
    unknown.write_text(placement.read_text().replace("model: llama-7b", "model: llama-8x", 1))
    zero = folder / "zero.yaml"
    zero.write_text(placement.read_text().replace("rate: 2.0", "rate: 0", 1))
    trace = folder / "bad.jsonl"
    trace.write_text('{"timestamp": 0, "input_length": 9, "output_length": 8}\n{}\n')
    yield [str(placement), "--cost", str(cost), "--system", "spatial"], "units.0: spatial partitioning gives each LLM"
    yield [str(folder / "none.yaml"), "--cost", str(cost)], "none.yaml: cannot be read"
    yield [str(placement), "--cost", str(folder / "none.json")], "none.json: cannot be read"
    yield [str(placement), "--cost", str(holes)], "llama-7b.1.100"
    yield [str(unknown), "--cost", str(cost)], "llama-7b"
    yield [str(zero), "--cost", str(cost)], "rate"
    yield [str(placement), "--cost", str(cost), "--trace", str(trace)], "bad.jsonl:2: "
    yield ["--validate", str(empty), "--cost", str(cost)], "no JSON files with measured cases"
    yield ["--validate", str(broken), "--cost", str(cost)], "cases.x"


def test_bad_input_is_said_with_its_place_and_no_traceback(placement, cost, tmp_path, capsys):
    for arguments, words in bad_inputs(placement, cost, tmp_path):
        assert main(arguments) == 2, arguments
        said = capsys.readouterr()
        assert words in said.err, (arguments, said.err)
        assert not said.out


@pytest.mark.parametrize("option", [["--duration", "0"], ["--scale", "nan"], ["--system", "other"]])
def test_impossible_options_are_refused(placement, option, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([str(placement), *option])
    assert stopped.value.code == 2
    assert option[0] in capsys.readouterr().err


def test_measured_runs_are_replayed_and_compared(tmp_path, cost, capsys):
    llm = {"model": "llama-7b", "tpt": 2.0, "n": 40}
    systems = {
        "spatial": {"llms": {"a": llm | {"dev": "1"}}, "slo_attainment_pct": {"8": 100}},
        "temporal": {"llms": {"a": llm | {"dev": "mesh1idx0", "n": 4}}},
        "muxserve": {"llms": {"a": llm | {"dev": "mesh1idx0"}}},
    }
    folder = tmp_path / "measured"
    folder.mkdir()
    (folder / "runs.json").write_text(json.dumps({"cases": {"x": {"rates": {"a": 2.5}, "systems": systems}}}))
    arguments = ["--validate", str(folder), "--cost", str(cost)]
    assert main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    spatial, temporal, _ = result["runs"]
    assert spatial["ratio"] == pytest.approx(spatial["predicted"] / 2.0, abs=1e-3)
    assert 1 < spatial["predicted"] < 2.5
    assert spatial["slo"]["8"]["measured"] == 100
    assert not temporal["comparable"], "it had a tenth of the others' requests"
    assert result["within_15_percent"]["runs"] == 2
    assert main(arguments) == 0
    assert "total within 15%" in capsys.readouterr().out


def test_what_is_too_long_in_a_trace_is_left_out_and_said(placement, cost, tmp_path, capsys):
    trace = tmp_path / "trace.jsonl"
    rows = [{"t": t, "prompt_len": 9 if t % 4 else 9000, "output_len": 8} for t in range(8)]
    trace.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    arguments = [str(placement), "--cost", str(cost), "--duration", "20", "--trace", str(trace)]
    assert main(arguments) == 0
    assert "25.0% of the trace is longer than 2,048 tokens" in capsys.readouterr().out
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trace_left_out"] == 0.25


def power_law_runs(folder: Path) -> Path:
    """Measured runs of one LLM at two rates, as the files of MuxServe's authors have them."""
    llm = {"model": "llama-7b", "n": 40, "avg_latency_s": 3.0, "avg_ttft_s": 0.1}
    cases = {
        f"2.1_{scale}": {
            "rates": {"a": 8 * scale},
            "systems": {
                system: {"llms": {"a": llm | {"dev": dev, "tpt": 6 * scale}}, "slo_attainment_pct": {"2": 40, "8": 90}}
                for system, dev in (("spatial", "1"), ("muxserve", "mesh1idx0"))
            },
        }
        for scale in (0.5, 1.0)
    }
    measured = folder / "measured"
    measured.mkdir()
    (measured / "runs.json").write_text(json.dumps({"cases": cases}))
    return measured


@pytest.mark.parametrize(("figure", "places"), [("throughput", ["0.5", "1.0"]), ("slo", ["2", "8"])])
def test_a_figure_has_the_simulated_curves_and_the_measured_points(tmp_path, cost, capsys, figure, places):
    pytest.importorskip("matplotlib")
    measured = power_law_runs(tmp_path)
    arguments = ["--figure", figure, "--measured", str(measured), "--cost", str(cost), "-o", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert f"{figure}.png" in capsys.readouterr().out
    assert (tmp_path / "out" / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
    assert "measured" in (tmp_path / "out" / f"{figure}.svg").read_text(), "its text is text"
    (panel,) = json.loads((tmp_path / "out" / f"{figure}.json").read_text())["panels"]
    assert panel["title"] == "alpha 2.1"
    assert set(panel["systems"]) == {"spatial", "muxserve", "muxjax"}
    assert all(list(system["simulated"]) == places for system in panel["systems"].values())
    assert list(panel["systems"]["muxserve"]["measured"]) == places
    assert not panel["systems"]["muxjax"]["measured"], "nobody has measured it"


def test_a_figure_asks_for_the_measured_runs(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--figure", "slo"])
    assert "--figure needs --measured DIR" in capsys.readouterr().err


def test_without_matplotlib_a_figure_says_how_to_get_it(tmp_path, cost, capsys, monkeypatch):
    monkeypatch.setattr("muxjax.simulate.figure.find_spec", lambda name: None)
    assert main(["--figure", "slo", "--measured", str(power_law_runs(tmp_path)), "--cost", str(cost)]) == 2
    assert "pip install 'muxjax[figures]'" in capsys.readouterr().err


def test_progress_is_shown_on_a_terminal_and_never_in_a_pipe(placement, cost, tmp_path):
    simulated = [placement, "--cost", cost, "--duration", "5"]
    replayed = ["--validate", power_law_runs(tmp_path), "--cost", cost]
    for arguments, word in ((simulated, "simulating"), (replayed, "replaying")):
        assert word in said_on_a_terminal("muxjax.simulate", arguments)
        assert said_into_a_pipe("muxjax.simulate", arguments) == ""


@pytest.mark.slow
@pytest.mark.skipif(not MEASURED.exists(), reason="the measured runs are not here")
def test_the_simulator_agrees_with_the_measured_clusters(capsys):
    assert main(["--validate", str(MEASURED), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["within_15_percent"]["part"] >= 0.8
