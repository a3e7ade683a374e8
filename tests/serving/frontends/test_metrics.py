"""What Prometheus gets from a server, and that the dashboard asks for nothing else."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from muxjax.serving.frontends.grpc import inference_pb2 as pb
from muxjax.serving.histogram import Histogram
from muxjax.serving.request import FinishReason
from muxjax.serving.statistics import LATENCY_BUCKETS, LLMStatistics, Timing
from tests.serving.frontends.echo import Echo, EchoUnit, serve

DASHBOARD = Path(__file__).parents[3] / "docs" / "grafana.json"
Sample = tuple[str, tuple[tuple[str, str], ...]]


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    with serve(EchoUnit()) as running:
        yield running


@pytest.fixture(scope="module")
def samples(echo: Echo) -> dict[Sample, float]:
    response = httpx.get(f"{echo.url}/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def test_vllms_names_have_the_engines_figures(samples: dict[Sample, float]) -> None:
    echo = (("model_name", "echo"),)
    for name, value in (
        ("vllm:num_requests_running", 0),
        ("vllm:num_requests_waiting", 0),
        ("vllm:kv_cache_usage_perc", 0),
        ("vllm:num_preemptions_total", 3),
        ("vllm:prompt_tokens_total", 1000),
        ("vllm:generation_tokens_total", 2000),
        ("muxjax_blocks_borrowed", 100),
        ("muxjax_request_errors_total", 1),
        ("muxjax_slo_attainment", 0.9),
    ):
        assert samples[name, echo] == value, name
    assert samples["vllm:request_success_total", (("finished_reason", "stop"), *echo)] == 7
    assert samples["vllm:cache_config_info", (("num_gpu_blocks", "1000"),)] == 1


def test_muxjaxs_names_tell_memory_compute_and_state(samples: dict[Sample, float]) -> None:
    echo = ("model_name", "echo")
    assert samples["muxjax_blocks", (echo, ("state", "quota"))] == 500
    assert samples["muxjax_blocks", (echo, ("state", "entitled"))] == 400
    assert samples["muxjax_compute_share", (echo, ("phase", "decode"))] == 0.5
    assert samples["muxjax_pool_blocks", (("state", "total"),)] == 1000
    assert samples["muxjax_model_state", (("model_name", "broken"), ("state", "failed"))] == 1
    assert samples["muxjax_steps_total", ()] == 42


def test_latencies_are_cumulative_histograms_in_vllms_buckets(samples: dict[Sample, float]) -> None:
    name = "vllm:time_to_first_token_seconds"
    buckets = [
        (float(dict(labels)["le"]), value) for (sample, labels), value in samples.items() if sample == f"{name}_bucket"
    ]
    assert [bound for bound, _ in buckets] == [*LATENCY_BUCKETS["time_to_first_token_seconds"], float("inf")]
    assert [value for bound, value in buckets if bound in (0.02, 0.04, 2560.0, float("inf"))] == [0, 2, 2, 3]
    assert samples[f"{name}_count", (("model_name", "echo"),)] == 3
    assert samples[f"{name}_sum", (("model_name", "echo"),)] == pytest.approx(3000.06)
    assert not any(sample.endswith("_created") for sample, _ in samples)


def test_the_dashboard_asks_for_names_that_there_are(samples: dict[Sample, float]) -> None:
    exported = {name for name, _ in samples}
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked = {
        name
        for panel in panels
        for target in panel["targets"]
        for name in re.findall(r"(?:vllm:|muxjax_)\w+", target["expr"])
    }
    assert asked
    assert asked <= exported
    labels = {label for _, pairs in samples for label, _ in pairs}
    shown = {
        label for panel in panels for t in panel["targets"] for label in re.findall(r"{{(\w+)}}", t["legendFormat"])
    }
    assert shown <= labels


def test_a_scrape_disturbs_no_stream(echo: Echo) -> None:
    with echo.stub() as stub:
        call = stub.Generate(pb.GenerateRequest(model="echo", text="ab", sampling=pb.SamplingParams(max_tokens=300)))
        next(call)
        for _ in range(5):
            assert httpx.get(f"{echo.url}/metrics").status_code == 200
        assert sum(len(message.token_ids) for message in call) > 200


def test_values_at_a_bound_fall_below_it() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 9.0):
        histogram.add(value)
    assert (histogram.counts().counts, histogram.counts().total) == ((2, 2, 1), 14.0)


def test_a_completions_phases_add_up() -> None:
    statistics = LLMStatistics(None, now=0.0)
    timing = Timing(1.0, started=1.5)
    for now in (3.0, 3.5, 4.5):
        statistics.token_read(timing, now)
    statistics.completion_ended(FinishReason.STOP, timing, 3, now=4.5)
    totals = {name: counts.total for name, counts in statistics.latencies().items()}
    assert totals == {
        "time_to_first_token_seconds": 2.0,
        "inter_token_latency_seconds": 1.5,
        "e2e_request_latency_seconds": 3.5,
        "request_queue_time_seconds": 0.5,
        "request_prefill_time_seconds": 1.5,
        "request_decode_time_seconds": 1.5,
    }
