"""Measured runs beside what the simulator says of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from muxjax.placement.cost.cost_model import CostModel
from muxjax.placement.cost.interpolated import InterpolatedTable
from muxjax.placement.cost.rounded import RoundedTable
from muxjax.placement.cost.table import CostTable
from muxjax.placement.job_times import Costs
from muxjax.placement.model_shape import ModelShape
from muxjax.placement.muxserve.candidates import find_candidates
from muxjax.placement.problem import LLM, Cluster, Problem
from muxjax.placement.workload import Lengths, make_requests
from muxjax.serving.simulation.latencies import ServedModel
from muxjax.serving.simulation.measured import MeasuredLLM, MeasuredRun
from muxjax.serving.simulation.metrics import attainment, measure
from muxjax.serving.simulation.systems import MOST_SEQUENCES, SYSTEMS, UnitLLM, make_unit
from muxjax.serving.simulation.unit_simulation import Outcome

TIME_LIMIT = 1000.0
"""Seconds after which the authors' runs stop."""
WITHIN, ENOUGH_WITHIN, ENOUGH_RANKED = 0.15, 0.8, 0.9
"""The target: total throughput within 15% in at least 80% of the runs; systems ranked as measured in at least 90%."""
_CLUSTER = Cluster(nnodes=4, ngpus_per_node=8, memory_per_gpu_gb=80.0)
_PROFILED_LENGTHS = (32, 64, 128, 256, 512)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One run.

    Attributes:
        run: what was measured.
        predicted: requests/s of each LLM.
        attainment: percent of requests within each SLO scale, predicted.
    """

    run: MeasuredRun
    predicted: dict[str, float]
    attainment: dict[float, float]

    @property
    def total(self) -> float:
        """Predicted requests/s of all LLMs."""
        return sum(self.predicted.values())

    @property
    def ratio(self) -> float:
        """Predicted over measured total."""
        return self.total / self.run.throughput


def simulate_run(run: MeasuredRun, table: CostTable, seed: int = 0) -> Comparison:
    """Replay one measured run; its LLMs were profiled in the table."""
    costs, deployed = InterpolatedTable(table), _deploy(run, table)
    requests = make_requests(
        {name: llm.rate for name, llm in run.llms.items()},
        {name: llm.lengths for name, llm in run.llms.items()},
        seed,
        counts={name: llm.requests for name, llm in run.llms.items()},
    )
    system = SYSTEMS[run.system] if run.is_limited else replace(SYSTEMS[run.system], max_sequences=MOST_SEQUENCES)
    outcomes: list[Outcome] = []
    for unit in sorted({llm.unit for llm in run.llms.values()}):
        llms = {name: llm for name, llm in run.llms.items() if llm.unit == unit}
        simulation = make_unit(system, {name: deployed[name] for name in llms}, run.kv_gb(unit), costs)
        outcomes += simulation.run((request for request in requests if request.llm in llms), TIME_LIMIT)
    by_llm: dict[str, list[Outcome]] = {name: [] for name in run.llms}
    for outcome in outcomes:
        by_llm[outcome.request.llm].append(outcome)
    alone = [_latency_alone(run.llms[outcome.request.llm], outcome, costs) for outcome in outcomes]
    return Comparison(
        run,
        {name: measure(group).throughput for name, group in by_llm.items()},
        {scale: 100 * attainment(outcomes, [scale * base for base in alone]) for scale in run.attainment},
    )


def ranked_alike(comparisons: Iterable[Comparison]) -> list[tuple[str, bool]]:
    """For each case with several comparable systems: whether the simulator ranks them as they were measured."""
    comparable = [comparison for comparison in comparisons if comparison.run.comparable]
    verdicts = []
    for case, group in groupby(comparable, key=lambda comparison: comparison.run.case):
        systems = list(group)
        measured = sorted(systems, key=lambda comparison: comparison.run.throughput)
        predicted = sorted(systems, key=lambda comparison: comparison.total)
        if len(systems) > 1:
            verdicts.append((case, measured == predicted))
    return verdicts


def within_target(comparisons: Sequence[Comparison]) -> list[bool]:
    """For each comparable run: whether its total is within 15%."""
    return [abs(comparison.ratio - 1) <= WITHIN for comparison in comparisons if comparison.run.comparable]


def _deploy(run: MeasuredRun, table: CostTable) -> dict[str, UnitLLM]:
    """The LLMs with the shares that they had: of its two processes the one with the larger share prefills."""
    decode_shares = _published_shares(run, table) if run.is_power_law else {}
    llms = {}
    for name, llm in run.llms.items():
        shares = (*llm.shares, decode_shares[name]) if name in decode_shares else llm.shares
        llms[name] = UnitLLM(ServedModel(llm.shape, llm.gpus, min(shares), max(shares)), llm.rate)
    return llms


def _published_shares(run: MeasuredRun, table: CostTable) -> dict[str, int]:
    """Decode shares by Alg. 2 of MuxServe, with which the runs were placed; they depend on rates and mesh sizes."""
    given = Lengths()
    llms = tuple(LLM(name, llm.shape, llm.rate, given.prompt_mean, given.output_mean) for name, llm in run.llms.items())
    candidates = find_candidates(Problem(_CLUSTER, llms), Costs(RoundedTable(table)))
    return {
        llm.name: by_size[run.llms[llm.name].gpus].share
        for llm, by_size in zip(llms, candidates, strict=True)
        if run.llms[llm.name].gpus in by_size
    }


def _latency_alone(llm: MeasuredLLM, outcome: Outcome, costs: CostModel) -> float:
    """The authors' base latency: a prefill of 32 tokens, whatever the prompt below 512, and decodes of batch 1."""
    gpus = _gpus_alone(llm.shape, costs)
    prompt = outcome.request.prompt_len
    full = float(costs.prefill_seconds(llm.shape, gpus, 100, 1, 512)) * prompt / 512
    prefill = full if prompt >= 512 else float(costs.prefill_seconds(llm.shape, gpus, 100, 1, 32))
    decode = float(costs.decode_seconds(llm.shape, gpus, 100, 1, _PROFILED_LENGTHS).mean())
    return prefill + outcome.request.output_len * decode


def _gpus_alone(shape: ModelShape, costs: CostModel) -> int:
    """1, 1, 4 and 8 GPUs for 7B, 13B, 30B and 65B, as the authors' spatial runs."""
    wanted = 1 if shape.weight_gb < 40 else 4 if shape.weight_gb < 100 else 8
    return max(gpus for gpus in costs.gpu_counts(shape) if gpus <= wanted)
