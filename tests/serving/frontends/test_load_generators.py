"""Load generators that people measure servers with, unmodified, against two demo models."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.muxjax.serve.process import serve_process
from tests.serving.frontends.clients import ROOT, environment, output_of, perf_analyzer_variables

TOKENIZER = ROOT / "models/demo/prose"  # the generators count tokens themselves
CONFIG = "llms: {prose: 'demo:prose', code: 'demo:code'}\npool: {memory: 64MiB}\n"


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """`http_address` and `address` of a server with both models ready."""
    config = tmp_path_factory.mktemp("served") / "two.yaml"
    config.write_text(CONFIG)
    with serve_process(str(config), "--port", "0", "--http-port", "0") as server:
        started = server.wait_for("start")
        server.wait_for("serving")
        yield started


@pytest.fixture
def installed(request: pytest.FixtureRequest) -> Path:
    """Asked for before the server, so that none is started in vain."""
    return environment(request.param)


@pytest.mark.parametrize("installed", ["inference-perf"], indirect=True)
def test_inference_perf(installed: Path, addresses: dict[str, Any], tmp_path: Path) -> None:
    lengths = {"min": 4, "max": 16, "mean": 8, "std_dev": 2, "total_count": 60}
    config = {
        "load": {"type": "constant", "stages": [{"rate": 20, "duration": 2}], "num_workers": 1},
        "api": {"type": "completion", "streaming": True},
        "server": {
            "type": "vllm",
            "model_name": "prose",
            "base_url": f"http://{addresses['http_address']}",
            "ignore_eos": True,
        },
        "tokenizer": {"pretrained_model_name_or_path": str(TOKENIZER)},
        "data": {"type": "random", "input_distribution": lengths, "output_distribution": lengths},
        "storage": {"local_storage": {"path": str(tmp_path / "report")}},
    }
    (tmp_path / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    output_of([installed / "bin/inference-perf", "-c", tmp_path / "config.yaml"])
    report = json.loads((tmp_path / "report/summary_lifecycle_metrics.json").read_text())
    assert (report["successes"]["count"], report["failures"]["count"]) == (40, 0)
    assert 0 < report["successes"]["latency"]["time_to_first_token"]["median"] < 10


@pytest.mark.parametrize("installed", ["aiperf"], indirect=True)
@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_aiperf(installed: Path, addresses: dict[str, Any], tmp_path: Path, endpoint: str) -> None:
    models = {"chat": "prose", "completions": "prose,code"}[endpoint]  # the code model has no chat template
    command = [installed / "bin/aiperf", "profile", "--ui-type", "none", "--artifact-dir", tmp_path]
    command += ["--url", f"http://{addresses['http_address']}", "--model", models, "--endpoint-type", endpoint]
    command += ["--tokenizer", TOKENIZER, "--streaming", "--use-server-token-count", "--request-count", "40"]
    command += ["--concurrency", "8", "--isl", "8", "--osl", "8", "--extra-inputs", "ignore_eos:true"]
    output_of(list(map(str, command)))
    report = json.loads((tmp_path / "profile_export_aiperf.json").read_text())
    assert report["error_summary"] == []
    assert report["request_count"]["avg"] == 40
    assert report["output_sequence_length"]["min"] == report["output_sequence_length"]["max"] == 8
    seen_in_metrics = json.loads((tmp_path / "server_metrics_export.json").read_text())["metrics"]
    assert {"vllm:time_to_first_token_seconds", "vllm:num_requests_running", "muxjax_blocks"} <= seen_in_metrics.keys()


@pytest.mark.parametrize("installed", ["genai-perf"], indirect=True)
def test_genai_perf(installed: Path, addresses: dict[str, Any], tmp_path: Path) -> None:
    command = [installed / "bin/genai-perf", "profile", "--model", "prose", "--backend", "vllm", "--streaming"]
    command += ["--url", addresses["address"], "--tokenizer", TOKENIZER, "--artifact-dir", tmp_path]
    command += ["--num-dataset-entries", "10", "--request-count", "20", "--concurrency", "2"]
    command += ["--synthetic-input-tokens-mean", "8", "--synthetic-input-tokens-stddev", "0"]
    command += ["--output-tokens-mean", "8", "--output-tokens-stddev", "0"]
    output_of(list(map(str, command)), variables=perf_analyzer_variables())
    (report,) = tmp_path.glob("*/profile_export_genai_perf.json")
    assert json.loads(report.read_text())["request_count"]["avg"] == 20
