"""`python -m muxjax.place`, as people and programs run it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from muxjax.place.__main__ import main
from muxjax.placement.placement_file import read_placement
from tests.muxjax.terminals import said_into_a_pipe, said_on_a_terminal

ROOT = Path(__file__).parents[3]
CLUSTER = """\
cluster: {nnodes: 1, ngpus_per_node: 4, gpu: a100-80gb}
models:
  - {name: chat, model: llama-13b, rate: 3, output_len: 100}
  - {name: code, model: org/llama-7b, rate: 2, slo: 20}
"""


def write(folder: Path, text: str, name: str = "cluster.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def complaints(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    return captured.err.splitlines()


@pytest.mark.parametrize("search", ["published", "released", "greedy", "best", "exact"])
def test_json_has_the_same_keys_whatever_the_search(tmp_path: Path, capsys: pytest.CaptureFixture[str], search: str):
    assert main([str(write(tmp_path, CLUSTER)), "--search", search, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert list(data) == ["search", "seconds", "throughput", "authors_objective", "upper_bound", "gap", "units"]
    assert data["search"] == search
    units = [unit for unit in data["units"] if unit["llms"]]
    assert list(units[0]) == ["gpus", "memory_per_gpu_gb", "llms"]
    keys = ["name", "model", "rate", "tensor_parallel", "decode_share", "batch_size", "throughput"]
    assert all(list(llm) == keys for unit in units for llm in unit["llms"])
    assert {llm["name"] for unit in units for llm in unit["llms"]} == {"chat", "code"}


def test_the_table_is_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(write(tmp_path, CLUSTER))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["unit", "GPUs", "LLM", "model", "rate/s", "served/s", "share", "batch"]
    assert any("chat" in line and "llama-13b" in line for line in lines)
    assert any(line.startswith("throughput  5 of 5 requests/s; no placement can exceed 5") for line in lines)


def test_the_written_file_is_the_placement(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, json.dumps({
        "hidden_size": 2048, "intermediate_size": 5632, "num_attention_heads": 32, "num_hidden_layers": 22,
        "vocab_size": 32000, "num_key_value_heads": 4,
    }), "config.json")  # fmt: skip
    text = CLUSTER + "  - {name: mine, model: config.json, rate: 1}\n"
    output = tmp_path / "placement.yaml"
    assert main([str(write(tmp_path, text)), "-o", str(output), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    placement = read_placement(output)
    assert placement.throughput == printed["throughput"]
    by_name = {llm.name: llm for unit in placement.units for llm in unit.llms}
    assert by_name["code"].slo == 20
    assert (by_name["chat"].prompt_len, by_name["chat"].output_len) == (161, 100)
    assert by_name["mine"].source == f"random:{tmp_path}/config.json"
    assert by_name["code"].source is None


def test_the_input_of_muxserves_cases_is_taken_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = {
        "cluster": {"nnodes": 1, "ngpus_per_node": 2, "memory_per_gpu_gb": 80},
        "avg_prompt_len": 50,
        "avg_output_len": 60,
        "models": [{"name": "llm-0", "model": "llama-7b", "rate": 1.5}],
    }
    assert main([str(write(tmp_path, yaml.safe_dump(given))), "--json"]) == 0
    assert main([str(write(tmp_path, json.dumps(given))), "--json", "-o", str(tmp_path / "out.yaml")]) == 0
    assert read_placement(tmp_path / "out.yaml").units[0].llms[0].output_len == 60


def test_rates_and_lengths_come_from_a_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "t,model,prompt_len,output_len\n0,a,10,20\n1,b,10,20\n2,a,30,40\n", "trace.csv")
    text = """\
cluster: {nnodes: 1, ngpus_per_node: 2, gpu: h100-80gb}
rates: {trace: trace.csv, total: 6}
models: [{name: a, model: llama-7b}, {name: b, model: llama-7b, prompt_len: 5}, {name: c, model: llama-7b, rate: 1}]
"""
    output = tmp_path / "placement.yaml"
    assert main([str(write(tmp_path, text)), "-o", str(output)]) == 0
    assert "7 of 7 requests/s" in capsys.readouterr().out
    loads = {llm.name: (llm.rate, llm.prompt_len) for unit in read_placement(output).units for llm in unit.llms}
    assert loads == {"a": (4, 20), "b": (2, 5), "c": (1, 161)}
    bad = write(tmp_path, text.replace("name: b", "name: z"))
    assert complaints(capsys, bad) == [
        f"{bad}:3: models.1.rate: is missing: add it, for the trace has no 'z'; its models are a, b"
    ]
    write(tmp_path, "t,model,prompt_len,output_len\n0,a,x,20\n", "trace.csv")
    assert f"{tmp_path}/trace.csv:2: needs a length from 0" in complaints(capsys, write(tmp_path, text))[0]


def test_all_mistakes_are_reported_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = """\
cluster: {nnodes: 0, ngpus_per_node: 8, gpu: a100}
models:
  - {name: a, model: llama-7, rate: 0}
  - {name: b, model: llama-7b, rate: -1, promt_len: 3}
  - {name: c, model: llama-7b, rate: .nan}
"""
    path = write(tmp_path, text)
    lines = complaints(capsys, path)
    assert [line.removeprefix(f"{path}:").split(": ")[:2] for line in lines] == [
        ["1", "cluster.nnodes"],
        ["1", "cluster.gpu"],
        ["3", "models.0.model"],
        ["3", "models.0.rate"],
        ["4", "models.1.rate"],
        ["4", "models.1.promt_len"],
        ["5", "models.2.rate"],
    ]
    assert "a100-40gb, a100-80gb, h100-80gb" in lines[1]
    assert "llama-7b, llama-13b, llama-30b, llama-65b" in lines[2]
    assert "did you mean 'prompt_len'?" in lines[5]


def test_no_llms_a_missing_rate_and_names_given_twice_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = "cluster: {nnodes: 1, ngpus_per_node: 1, gpu: a100-80gb}\n"
    assert "models: is empty" in complaints(capsys, write(tmp_path, head + "models: []\n"))[0]
    text = head + "models: [{name: a, model: llama-7b}]\n"
    assert "models.0.rate: is missing: add it" in complaints(capsys, write(tmp_path, text))[0]
    text = head + "models: [{name: a, model: llama-7b, rate: 1}, {name: a, model: llama-7b, rate: 1}]\n"
    assert "models.1.name: models.0 has the name 'a' too: rename" in complaints(capsys, write(tmp_path, text))[0]
    assert "cannot be read" in complaints(capsys, tmp_path / "none.yaml")[0]


def test_a_missing_rate_and_a_name_given_twice_are_said_with_all_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["{name: a, model: llama-7b}", "{name: a, model: llama-7b, rate: 0}", "{name: b, model: lama-7b, rate: 1}"]
    text = "cluster: {nnodes: 1, ngpus_per_node: 1, gpu: a100-80gb}\nmodels:\n" + "".join(f"  - {x}\n" for x in lines)
    said = [line.split(": ")[:2] for line in complaints(capsys, write(tmp_path, text))]
    fields = ["models.0.rate", "models.1.name", "models.1.rate", "models.2.model"]
    assert sorted(field for _, field in said) == fields


def test_what_does_not_fit_is_said_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, CLUSTER + "  - {name: big, model: llama-65b, rate: 1}\n")
    text = path.read_text().replace("ngpus_per_node: 4", "ngpus_per_node: 2")
    (line,) = complaints(capsys, write(tmp_path, text))
    assert line.startswith(f"{path}:5: models.2: big (llama-65b) does not fit: its weights are 130 GB")
    assert "43.6 GB are missing" in line


def test_holes_in_a_table_that_are_needed_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = {"1": {"32": {"prefill": -1, "decoding": 10.0}}}
    table = write(tmp_path, json.dumps({"llama-7b": {"1": {"100": entry}}}), "cost.json")
    lines = complaints(capsys, write(tmp_path, CLUSTER), "--cost", table)
    assert lines == [
        f"{tmp_path}/cluster.yaml: {table}: llama-13b: is not in the table; it has llama-7b",
        f"{tmp_path}/cluster.yaml: {table}: llama-7b.1.100: no prefill was run (all are -1): "
        "profile it again, or delete this entry",
    ]


def test_progress_is_shown_on_a_terminal_and_never_in_a_pipe(tmp_path: Path) -> None:
    arguments = [write(tmp_path, CLUSTER), "--json"]
    assert "searching" in said_on_a_terminal("muxjax.place", arguments)
    assert said_into_a_pipe("muxjax.place", arguments) == ""


def test_it_starts_without_jax() -> None:
    program = "import sys, muxjax.place.__main__\nprint(sorted(set(sys.modules) & {'jax', 'flax'}))"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
