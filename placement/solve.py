"""From a problem to a placement, by any of the searches; all are measured alike."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from muxjax.placement.capacity import explain_shortage
from muxjax.placement.cost.cost_model import CostModel
from muxjax.placement.errors import PlacementError
from muxjax.placement.job_times import Costs
from muxjax.placement.muxserve.estimate import estimate_mesh
from muxjax.placement.muxserve.greedy import MENDED, PUBLISHED, RELEASED, GreedySearch
from muxjax.placement.placement import PlacedLLM, PlacedUnit, Placement
from muxjax.placement.problem import Cluster, Problem
from muxjax.placement.rules import kv_budget_gb, mesh_sizes
from muxjax.placement.search.bound import upper_bound
from muxjax.placement.search.exact import ExactSearch
from muxjax.placement.search.local import LocalSearch, Unit, spread
from muxjax.placement.search.unit_plan import UnitPlanner

GREEDY_RULES = {"published": PUBLISHED, "released": RELEASED, "greedy": MENDED}
SEARCHES = ("best", "exact", *GREEDY_RULES)
_FEW_UNITS = 1_500  # so many can all be planned within a second or two
_FEW_LLMS = 100  # for so many it is worth the time to look for headroom
_HEADROOMS = (1.5, 1.2)  # few, for each takes as long as the search itself
_ROUNDING = 1e-9

Progress = Callable[[str], None]
"""Told in a few words how far the search is."""


@dataclass(frozen=True, slots=True)
class ChosenUnit:
    """A mesh as a search leaves it: LLMs by their indices, with their shares and batches; maybe none."""

    gpus: int
    llms: tuple[int, ...] = ()
    shares: tuple[int, ...] = ()
    batches: tuple[int, ...] = ()


def solve(problem: Problem, cost_model: CostModel, search: str, progress: Progress = lambda words: None) -> Placement:
    """Find a placement with one of SEARCHES.

    Raises:
        PlacementError: the LLMs do not fit on the cluster, which is then said in detail; or the search is not for
            clusters of this size.
    """
    began = time.perf_counter()
    costs = Costs(cost_model)
    planner = UnitPlanner(problem, costs)
    if shortage := explain_shortage(problem, costs):
        raise PlacementError(shortage)
    bound: float | None = None
    if search in GREEDY_RULES:
        units = _greedy(problem, costs, search, progress)
    elif search == "exact":
        units, bound = _exact(problem, costs, progress)
    else:
        units, bound = _best(problem, costs, planner, progress)
    seconds = time.perf_counter() - began
    placement = _placement(problem, costs, search, units, bound or upper_bound(problem, planner), seconds)
    if search != "best" or placement.gap <= _ROUNDING:
        return placement
    finer = upper_bound(problem, planner, fine=True)
    return replace(placement, upper_bound=max(min(placement.upper_bound, finer), placement.throughput))


def _greedy(problem: Problem, costs: Costs, search: str, progress: Progress) -> list[ChosenUnit]:
    result = GreedySearch(problem, costs, GREEDY_RULES[search]).run(
        lambda done, total: progress(f"{done:,} of {total:,} groups of meshes")
    )
    if result is None:
        raise PlacementError(
            f"models: --search {search} finds no meshes on which its rules let all LLMs be placed: "
            "--search best tries more"
        )
    return [
        ChosenUnit(gpus, tuple(llm for llm, _ in members), tuple(share for _, share in members), estimate.batch_sizes)
        for gpus, members, estimate in result.meshes
    ]


def _exact(problem: Problem, costs: Costs, progress: Progress) -> tuple[list[ChosenUnit], float]:
    planner = UnitPlanner(problem, costs, thorough=True)
    found = ExactSearch(problem, planner).run(lambda done, total: progress(f"{done:,} of {total:,} units planned"))
    if found is None:
        raise PlacementError("models: no placement holds all LLMs (proven): add GPUs, or leave LLMs out")
    optimum, units = found
    return _planned(spread(units, problem.cluster, planner), planner), optimum


def _best(problem: Problem, costs: Costs, planner: UnitPlanner, progress: Progress) -> tuple[list[ChosenUnit], float]:
    """Local search; where that does not reach the bound and the cluster is small, the exact one.

    Where every LLM gets what it would alone, of such placements one with headroom.
    """
    bound = upper_bound(problem, planner)

    def report(throughput: float) -> None:
        progress(f"{throughput:.4g} of at most {bound:.4g} requests/s")

    units = LocalSearch(problem, planner, bound, report).run()
    reached = sum(planner.throughput(*unit) for unit in units or ())
    if (units is None or reached < bound * (1 - _ROUNDING)) and ExactSearch(problem, planner).num_units <= _FEW_UNITS:
        return _exact(problem, costs, progress)
    if units is None:
        raise PlacementError("models: no placement was found that holds all LLMs: add GPUs, or leave LLMs out")
    if reached >= _attainable(problem, planner) * (1 - _ROUNDING) and len(problem.llms) <= _FEW_LLMS:
        roomier = _with_headroom(problem, costs, progress)
        if sum(planner.throughput(*unit) for unit in roomier or ()) >= reached * (1 - _ROUNDING):
            units = roomier or units
    return _planned(units, planner), bound


def _attainable(problem: Problem, planner: UnitPlanner) -> float:
    """What the LLMs would reach if each were alone on the mesh that is best for it."""
    sizes = mesh_sizes(problem.cluster.ngpus_per_node)
    return sum(max(planner.alone(size, llm) for size in sizes) for llm in range(len(problem.llms)))


def _with_headroom(problem: Problem, costs: Costs, progress: Progress) -> list[Unit] | None:
    """Units of the largest of `_HEADROOMS` times the rates at which each LLM gets what it would alone; None for none.

    Rates are means: requests come in bursts, and a unit that has just enough keeps them waiting.
    """
    for factor in _HEADROOMS:
        larger = replace(problem, llms=tuple(replace(llm, rate=factor * llm.rate) for llm in problem.llms))
        planner = UnitPlanner(larger, costs)
        enough = _attainable(larger, planner) * (1 - _ROUNDING)
        progress(f"for {factor:g} times the rates")
        if upper_bound(larger, planner) < enough:
            continue
        units = LocalSearch(larger, planner, enough, lambda throughput: None).run()
        if sum(planner.throughput(*unit) for unit in units or ()) >= enough:
            return units
    return None


def _planned(units: Sequence[Unit], planner: UnitPlanner) -> list[ChosenUnit]:
    chosen = []
    for gpus, llms in sorted(units, key=lambda unit: -unit[0]):
        plan = planner.plan(gpus, llms)
        if plan is None:
            raise RuntimeError(f"the search returned a unit that cannot be planned: {llms} on {gpus} GPUs")
        chosen.append(ChosenUnit(gpus, llms, plan.shares, plan.batches))
    return chosen


def unit_throughputs(problem: Problem, costs: Costs, unit: ChosenUnit) -> list[float]:
    """min(tpt, rate) of each LLM of a unit, in requests/s (MuxServe, section 3.1); 0 where its batches do not fit."""
    llms = [problem.llms[index] for index in unit.llms]
    times = [costs.times(llm, unit.gpus, share) for llm, share in zip(llms, unit.shares, strict=True)]
    held_gb = sum(batch * llm.kv_gb_per_sequence for batch, llm in zip(unit.batches, llms, strict=True))
    if held_gb > kv_budget_gb(problem.cluster.memory_per_gpu_gb * unit.gpus, llms) * (1 + _ROUNDING):
        return [0.0] * len(llms)
    waiting = sum(float(time.prefill[batch]) for time, batch in zip(times, unit.batches, strict=True))
    return [
        min(llm.rate, batch / (waiting + float(time.completion[batch])))
        for llm, time, batch in zip(llms, times, unit.batches, strict=True)
    ]


def _authors_objective(problem: Problem, costs: Costs, units: Sequence[ChosenUnit]) -> float:
    total = 0.0
    for unit in units:
        if unit.llms:
            members = [(problem.llms[llm], share) for llm, share in zip(unit.llms, unit.shares, strict=True)]
            memory_gb = problem.cluster.memory_per_gpu_gb * unit.gpus
            mean = estimate_mesh(unit.gpus, memory_gb, members, costs).mean
            total += mean * sum(llm.rate for llm, _ in members)
    return total / sum(llm.rate for llm in problem.llms)


def _placement(
    problem: Problem, costs: Costs, search: str, units: Sequence[ChosenUnit], bound: float, seconds: float
) -> Placement:
    throughputs = [unit_throughputs(problem, costs, unit) for unit in units]
    throughput = sum(sum(of_unit) for of_unit in throughputs)
    return Placement(
        search=search,
        seconds=seconds,
        throughput=throughput,
        authors_objective=_authors_objective(problem, costs, units),
        upper_bound=max(bound, throughput),
        units=tuple(
            PlacedUnit(
                node=node,
                devices=devices,
                memory_per_gpu_gb=problem.cluster.memory_per_gpu_gb,
                llms=_placed_llms(problem, unit, of_unit),
            )
            for unit, of_unit, (node, devices) in zip(units, throughputs, _devices(problem.cluster, units), strict=True)
        ),
    )


def _placed_llms(problem: Problem, unit: ChosenUnit, throughputs: Sequence[float]) -> tuple[PlacedLLM, ...]:
    placed = []
    for index, share, batch, throughput in zip(unit.llms, unit.shares, unit.batches, throughputs, strict=True):
        llm = problem.llms[index]
        placed.append(
            PlacedLLM(
                name=llm.name,
                model=llm.shape.name,
                rate=llm.rate,
                tensor_parallel=unit.gpus,
                decode_share=share,
                batch_size=batch,
                throughput=throughput,
                prompt_len=llm.prompt_len,
                output_len=llm.output_len,
                source=llm.source,
                slo=llm.slo,
            )
        )
    return tuple(placed)


def _devices(cluster: Cluster, units: Sequence[ChosenUnit]) -> list[tuple[int, tuple[int, ...]]]:
    """Node and GPUs of each unit: large meshes first, each on the first node that has room."""
    used = [0] * cluster.nnodes
    places: dict[int, tuple[int, tuple[int, ...]]] = {}
    for index in sorted(range(len(units)), key=lambda index: -units[index].gpus):
        gpus = units[index].gpus
        node = next(node for node in range(cluster.nnodes) if used[node] + gpus <= cluster.ngpus_per_node)
        places[index] = node, tuple(range(used[node], used[node] + gpus))
        used[node] += gpus
    return [places[index] for index in range(len(units))]
