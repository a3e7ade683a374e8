"""What Prometheus reads: vLLM's names, which dashboards and gateways know, and `muxjax_` for what is new here.

Everything is computed from the units' status when it is asked for; the engine only counts.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import override

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from muxjax.serving.frontends.service import Service
from muxjax.serving.histogram import HistogramCounts
from muxjax.serving.progress import LLMState, Progress
from muxjax.serving.request import FinishReason
from muxjax.serving.unit import LLMStatus, UnitStatus

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_MODEL = ("model_name",)
_GAUGES: Sequence[tuple[str, str, Callable[[LLMStatus], float]]] = (
    ("vllm:num_requests_running", "Sequences that hold memory.", lambda llm: llm.running),
    ("vllm:num_requests_waiting", "Sequences that wait.", lambda llm: llm.waiting),
    (
        "vllm:kv_cache_usage_perc",
        "Share of its quota of head blocks that the model holds; 1 is all.",
        lambda llm: llm.blocks_used / max(llm.blocks_quota, 1),
    ),
    ("muxjax_blocks_borrowed", "Head blocks of the quota beyond what is due.", lambda llm: llm.blocks_borrowed),
    ("muxjax_tokens_per_second", "Tokens generated lately.", lambda llm: llm.tokens_per_second),
)
_COUNTERS: Sequence[tuple[str, str, Callable[[LLMStatus], float]]] = (
    ("vllm:num_preemptions", "Sequences that lost their memory.", lambda llm: llm.preemptions),
    ("vllm:prompt_tokens", "Prompt tokens taken.", lambda llm: llm.prompt_tokens),
    ("vllm:generation_tokens", "Tokens generated.", lambda llm: llm.generated_tokens),
    ("muxjax_request_errors", "Completions that the unit could not finish.", lambda llm: llm.errors),
)
_BLOCKS: Sequence[tuple[str, Callable[[LLMStatus], int]]] = (
    ("used", lambda llm: llm.blocks_used),
    ("quota", lambda llm: llm.blocks_quota),
    ("entitled", lambda llm: llm.blocks_entitled),
)


class Metrics(Collector):
    """The figures of a service, in a registry of its own."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def render(self) -> bytes:
        """The text that Prometheus scrapes, of type CONTENT_TYPE."""
        return generate_latest(self._registry)

    @override
    def collect(self) -> Iterator[Metric]:
        """All figures, now."""
        status = self._service.status()
        for name, text, value in _GAUGES:
            yield _per_llm(GaugeMetricFamily(name, text, labels=_MODEL), status, value)
        for name, text, value in _COUNTERS:
            yield _per_llm(CounterMetricFamily(name, text, labels=_MODEL), status, value)
        yield from _latencies(status)
        yield _success(status)
        yield _blocks(status)
        yield _compute(status)
        yield _attainment(status)
        yield from _unit(status)
        yield from _models(self._service.models())


def _per_llm[Family: (GaugeMetricFamily, CounterMetricFamily)](
    family: Family, status: UnitStatus, value: Callable[[LLMStatus], float]
) -> Family:
    for llm in status.llms:
        family.add_metric([llm.name], value(llm))
    return family


def _latencies(status: UnitStatus) -> Iterator[Metric]:
    for name in status.llms[0].latencies if status.llms else ():
        family = HistogramMetricFamily(f"vllm:{name}", f"{name.replace('_', ' ').capitalize()}.", labels=_MODEL)
        for llm in status.llms:
            family.add_metric([llm.name], _cumulative(llm.latencies[name]), llm.latencies[name].total)
        yield family


def _cumulative(histogram: HistogramCounts) -> list[tuple[str, float]]:
    buckets, total = [], 0
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        total += count
        buckets.append(("+Inf" if bound == float("inf") else str(float(bound)), float(total)))
    return buckets


def _success(status: UnitStatus) -> Metric:
    family = CounterMetricFamily(
        "vllm:request_success", "Completions by how they ended.", labels=[*_MODEL, "finished_reason"]
    )
    for llm in status.llms:
        for reason in (FinishReason.STOP, FinishReason.LENGTH, FinishReason.ABORT):
            family.add_metric([llm.name, reason.value], llm.ended.get(reason, 0))
    return family


def _blocks(status: UnitStatus) -> Metric:
    family = GaugeMetricFamily("muxjax_blocks", "Head blocks by model and state.", labels=[*_MODEL, "state"])
    for llm in status.llms:
        for state, value in _BLOCKS:
            family.add_metric([llm.name, state], value(llm))
    return family


def _compute(status: UnitStatus) -> Metric:
    family = GaugeMetricFamily("muxjax_compute_share", "Share of the steps' time lately.", labels=[*_MODEL, "phase"])
    for llm in status.llms:
        family.add_metric([llm.name, "prefill"], llm.prefill_share)
        family.add_metric([llm.name, "decode"], llm.decode_share)
    return family


def _attainment(status: UnitStatus) -> Metric:
    text = "Share of recent completions that were as fast as promised."
    family = GaugeMetricFamily("muxjax_slo_attainment", text, labels=_MODEL)
    for llm in status.llms:
        if llm.slo_attainment is not None:
            family.add_metric([llm.name], llm.slo_attainment)
    return family


def _unit(status: UnitStatus) -> Iterator[Metric]:
    pool = GaugeMetricFamily("muxjax_pool_blocks", "Head blocks of the pool.", labels=["state"])
    pool.add_metric(["total"], status.blocks_total)
    pool.add_metric(["free"], status.blocks_free)
    yield pool
    yield GaugeMetricFamily("muxjax_busy", "Share of the time in which steps ran lately.", value=status.busy)
    yield GaugeMetricFamily("muxjax_fairness_gap", "Largest difference of normalised use.", value=status.fairness_gap)
    yield CounterMetricFamily("muxjax_steps", "Steps of the engine.", value=status.steps)
    text = "What the pool is made of."
    config = GaugeMetricFamily("vllm:cache_config_info", text, labels=["num_gpu_blocks"])
    config.add_metric([str(status.blocks_total)], 1)
    yield config


def _models(models: Sequence[Progress]) -> Iterator[Metric]:
    state = GaugeMetricFamily("muxjax_model_state", "1 for the state that a model is in.", labels=[*_MODEL, "state"])
    seconds = GaugeMetricFamily("muxjax_compile_seconds", "Loading and compiling, until ready.", labels=_MODEL)
    for progress in models:
        state.add_metric([progress.llm, progress.state.value], 1)
        if progress.state is LLMState.READY:
            seconds.add_metric([progress.llm], progress.seconds)
    yield state
    yield seconds
