"""What a placement gives under a load: throughput, latencies and SLO attainment of each LLM."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from muxjax.placement.cost.cost_model import CostModel
from muxjax.placement.cost.table import CostTable
from muxjax.placement.errors import PlacementError
from muxjax.placement.known_models import find_model
from muxjax.placement.placement import PlacedLLM, PlacedUnit
from muxjax.placement.placement_file import read_placement
from muxjax.placement.rate_curve import follow_curves, has_curves, read_curves
from muxjax.placement.replay import replay
from muxjax.placement.rules import kv_left_gb
from muxjax.placement.trace import TraceRequest, read_requests
from muxjax.placement.workload import Lengths, Request, make_requests
from muxjax.serving.simulation.latencies import ServedModel
from muxjax.serving.simulation.metrics import attainment, measure
from muxjax.serving.simulation.prefill_share import prefill_share
from muxjax.serving.simulation.systems import SYSTEMS, UnitLLM, make_unit
from muxjax.serving.simulation.unit_simulation import Outcome
from muxjax.serving.statistics import Percentiles
from muxjax.simulate.progress import tracked

_SLO_SCALES = (2, 5, 8, 20)
_LONGEST = 2048


@dataclass(frozen=True, slots=True)
class Workload:
    """What is sent.

    Attributes:
        duration: seconds during which requests arrive.
        seed: of arrivals and lengths.
        variation: coefficient of variation of the gaps between arrivals; 1 is Poisson.
        trace: a file to take arrivals and lengths from instead, or rates over time; None: random ones.
        scale: multiplies the rates of the placement.
    """

    duration: float
    seed: int
    variation: float
    trace: Path | None
    scale: float

    def requests(self, llms: Mapping[str, PlacedLLM]) -> tuple[list[Request], float]:
        """By arrival, and which part of the trace is too long for an LLM and left out.

        Raises PlacementError where the trace cannot be used.
        """
        rates = {name: llm.rate * self.scale for name, llm in llms.items()}
        lengths = {name: Lengths(llm.prompt_len, llm.output_len) for name, llm in llms.items()}
        if self.trace is not None and has_curves(self.trace):
            return follow_curves(read_curves(self.trace), rates, lengths, self.duration, self.seed), 0.0
        if self.trace is not None:
            trace = read_requests(self.trace)
            fitting = [request for request in trace if _fits(request)]
            if not fitting:
                raise PlacementError(f"{self.trace}: no request has at most {_LONGEST} tokens, which an LLM can take")
            return replay(fitting, rates, self.duration), 1 - len(fitting) / len(trace)
        return make_requests(rates, lengths, self.seed, duration=self.duration, variation=self.variation), 0.0


def run(file: Path, costs: CostModel, table: CostTable | None, system: str, workload: Workload) -> dict[str, Any]:
    """Simulate until all have ended; the result is ready for JSON. Raises PlacementError."""
    placement = read_placement(file)
    llms = {llm.name: llm for unit in placement.units for llm in unit.llms}
    if not llms:
        raise PlacementError(f"{file}: units: there are no LLMs")
    if complaints := [complaint for llm in llms.values() for complaint in _impossible(file, llm)]:
        raise PlacementError(complaints)
    requests, left_out = workload.requests(llms)
    if table is not None:
        table.check([find_model(llm.model).name for llm in llms.values()], max(unit.gpus for unit in placement.units))
    outcomes: list[Outcome] = []
    for number, unit in tracked(enumerate(placement.units), "simulating", len(placement.units)):
        if unit.llms:
            names = {llm.name for llm in unit.llms}
            chosen = [request for request in requests if request.llm in names]
            outcomes += _run_unit(f"{file}: units.{number}", unit, costs, system, chosen)
    return {
        "system": system,
        "duration": workload.duration,
        "trace_left_out": round(left_out, 4),
        "total": _report(outcomes, llms, costs),
        "llms": {
            name: _report([outcome for outcome in outcomes if outcome.request.llm == name], llms, costs)
            for name in llms
        },
    }


def show(result: Mapping[str, Any]) -> None:
    """A table for people."""
    scales = [f"{scale}x alone" for scale in result["total"]["slo_attainment"]]
    table = Table(
        "LLM", "requests", "finished", "req/s", "TTFT p50", "p99 s", "TPOT p50", "p99 ms", *scales, "SLO", title=None
    )
    for name, entry in (*result["llms"].items(), ("all", result["total"])):
        ttft, tpot, slo = entry["ttft_s"], entry["tpot_s"], entry["slo_met"]
        table.add_row(
            name,
            str(entry["requests"]),
            str(entry["finished"]),
            f"{entry['throughput']:.2f}",
            *(_number(ttft.get(part), 1, "{:.2f}") for part in ("p50", "p99")),
            *(_number(tpot.get(part), 1000, "{:.0f}") for part in ("p50", "p99")),
            *(f"{part:.1%}" for part in entry["slo_attainment"].values()),
            "-" if slo is None else f"{slo:.1%}",
        )
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(f"{result['system']}, requests for {result['duration']:g} s")
    console.print(table)
    if result["trace_left_out"]:
        console.print(f"{result['trace_left_out']:.1%} of the trace is longer than {_LONGEST:,} tokens, and left out")


def _impossible(file: Path, llm: PlacedLLM) -> Iterator[str]:
    for name in ("rate", "prompt_len", "output_len"):
        if not 0 < getattr(llm, name) < float("inf"):
            yield f"{file}: {llm.name}: {name}: must be a positive number, not {getattr(llm, name)}"


def _run_unit(at: str, unit: PlacedUnit, costs: CostModel, system: str, requests: list[Request]) -> list[Outcome]:
    if system == "spatial" and len(unit.llms) > 1:
        names = ", ".join(llm.name for llm in unit.llms)
        raise PlacementError(f"{at}: spatial partitioning gives each LLM GPUs of its own, but {names} share these")
    models = {}
    for llm in unit.llms:
        shape = find_model(llm.model)
        if llm.tensor_parallel not in costs.gpu_counts(shape):
            raise PlacementError(f"{at}: the cost table has no latencies of {llm.model} on {llm.tensor_parallel} GPUs")
        served = ServedModel(shape, llm.tensor_parallel, llm.decode_share, prefill_share(shape))
        models[llm.name] = UnitLLM(served, llm.rate)
    kv_gb = kv_left_gb(unit.gpus * unit.memory_per_gpu_gb, [llm.model.shape.weight_gb for llm in models.values()])
    try:
        simulation = make_unit(SYSTEMS[system], models, kv_gb, costs)
    except ValueError as error:
        raise PlacementError(f"{at}: {error}") from error
    return simulation.run(requests)


def _report(outcomes: list[Outcome], llms: Mapping[str, PlacedLLM], costs: CostModel) -> dict[str, Any]:
    metrics = measure(outcomes)
    alone = [_alone(llms[outcome.request.llm], outcome.request, costs) for outcome in outcomes]
    wishes = [(outcome, slo) for outcome in outcomes if (slo := llms[outcome.request.llm].slo) is not None]
    return {
        "requests": metrics.requests,
        "finished": metrics.finished,
        "throughput": round(metrics.throughput, 4),
        "latency_s": _finite(metrics.latency),
        "ttft_s": _seconds(metrics.ttft),
        "tpot_s": _seconds(metrics.tpot),
        "slo_attainment": {
            str(scale): round(attainment(outcomes, [scale * base for base in alone]), 4) for scale in _SLO_SCALES
        },
        "slo_met": round(attainment([outcome for outcome, _ in wishes], [slo for _, slo in wishes]), 4)
        if wishes
        else None,
    }


def _alone(llm: PlacedLLM, request: Request, costs: CostModel) -> float:
    """Seconds that the request takes where nothing else runs."""
    shape, gpus = find_model(llm.model), llm.tensor_parallel
    prefill = costs.prefill_seconds(shape, gpus, 100, 1, request.prompt_len)
    decode = costs.decode_seconds(shape, gpus, 100, 1, request.prompt_len + request.output_len / 2)
    return float(prefill + (request.output_len - 1) * decode)


def _fits(request: TraceRequest) -> bool:
    return request.prompt_len + request.output_len <= _LONGEST


def _seconds(percentiles: Percentiles | None) -> dict[str, float | None]:
    """Empty where nothing was sent."""
    return {name: _finite(value) for name, value in asdict(percentiles).items()} if percentiles else {}


def _finite(value: float) -> float | None:
    """JSON knows no infinity."""
    return round(value, 5) if isfinite(value) else None


def _number(value: float | None, factor: float, form: str) -> str:
    return "-" if value is None else form.format(value * factor)
