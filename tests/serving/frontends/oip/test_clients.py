"""Clients that people use, unmodified, each in an environment of its own: `make clients` makes them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.muxjax.serve.process import serve_process
from tests.serving.frontends.clients import environment, output_of, perf_analyzer_variables
from tests.serving.frontends.echo import Echo, EchoUnit, serve


@pytest.fixture
def echo() -> Iterator[Echo]:
    with serve(EchoUnit()) as running:
        yield running
        running.eventually(lambda: running.service.num_requests == 0 and not running.unit.live)


def run(client: str, script: str, address: str) -> Any:
    """What a client found, which it prints as JSON."""
    command = [environment(client) / "bin/python", Path(__file__).parent / "clients" / script, address]
    return json.loads(output_of(command).splitlines()[-1])


def test_tritonclient_streams_to_two_models_and_cancels(echo: Echo) -> None:
    found = run("triton", "triton_sync.py", echo.address)
    assert found["text"] == "héllohé"
    assert found["tokens"] == [5, 6, 5]
    assert found["errors"] == ["max_tokens: is 0; it must be at least 1"]
    assert found["about"] == {
        "live": True,
        "ready": True,
        "model": True,
        "unknown": False,
        "name": "muxjax",
        "inputs": 31,
        "decoupled": True,
        "index": 4,
        "regions": 0,
    }


def test_tritonclient_aio_streams_cancels_and_keeps_to_its_deadline(echo: Echo) -> None:
    found = run("triton", "triton_aio.py", echo.address)
    assert found == {"text": "abcab", "whole": "abcabca", "late": "StatusCode.DEADLINE_EXCEEDED"}


def test_kserves_client(echo: Echo) -> None:
    found = run("triton", "kserve_client.py", echo.address)
    assert found == {"live": True, "ready": True, "model": True, "text": "abcabca"}


def test_llama_indexs_llm_for_triton(echo: Echo) -> None:
    found = run("perf-analyzer", "llama_index_client.py", echo.address)
    # Of as many messages as it asked for tokens, it drops the last; so it has 7 characters, or 8 where two came in one.
    for text in (found["text"], "".join(found["deltas"])):
        assert text in ("abcdefg", "abcdefgh")


@pytest.mark.parametrize("stream", [True, False])
def test_perf_analyzer_measures_without_errors(echo: Echo, tmp_path: Path, stream: bool) -> None:
    sampling = json.dumps({"max_tokens": 8})
    inputs = {"text_input": ["hello"], "stream": [stream], "sampling_parameters": [sampling]}
    (tmp_path / "inputs.json").write_text(json.dumps({"data": [inputs]}))
    report = perf_analyzer(echo.address, tmp_path)
    assert "Request concurrency: 2" in report
    assert "error" not in report.lower()
    responses_per_request = 8 if stream else 1
    figures = {
        line.split(":")[0].strip(): line.split(":")[-1].split()[0] for line in report.splitlines() if "/sec" in line
    }
    ratio = float(figures["Response Throughput"]) / float(figures["Throughput"])
    assert responses_per_request * 0.3 <= ratio <= responses_per_request + 1


def perf_analyzer(address: str, folder: Path) -> str:
    """What it reports of two requests at a time, each of the inputs in the folder."""
    command = ["perf_analyzer", "-m", "echo", "-u", address, "-i", "grpc", "--async", "--streaming"]
    command += ["--input-data", folder / "inputs.json", "--concurrency-range", "2", "--stability-percentage", "999"]
    command += ["--measurement-mode", "count_windows", "--measurement-request-count", "20"]
    return output_of(command, variables=perf_analyzer_variables())


def test_a_real_model_adds_in_both_dialects(tmp_path: Path) -> None:
    environment("triton")
    config = tmp_path / "one.yaml"
    config.write_text("llms: {arithmetic: 'demo:arithmetic'}\npool: {memory: 64MiB}\n")
    with serve_process(str(config), "--port", "0", "--http-port", "0") as server:
        address = server.wait_for("start")["address"]
        server.wait_for("serving")
        first, second = run("triton", "demo.py", address)
        assert first == second
        assert first.startswith("12+30=42")
