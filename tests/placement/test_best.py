"""The searches that are muxjax's own: better than MuxServe's, within the rules, and within the bound."""

from collections import Counter
from itertools import product

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from muxjax.placement.cost.roofline import Roofline
from muxjax.placement.errors import PlacementError
from muxjax.placement.gpus import KNOWN_GPUS
from muxjax.placement.job_times import Costs
from muxjax.placement.known_models import KNOWN_MODELS
from muxjax.placement.muxserve.estimate import estimate_mesh
from muxjax.placement.placement import Placement
from muxjax.placement.problem import LLM, Cluster, Problem
from muxjax.placement.rules import kv_budget_gb, node_splits, weight_budget_gb
from muxjax.placement.search.bound import ranges, upper_bound
from muxjax.placement.search.local import fits
from muxjax.placement.search.unit_plan import UnitPlanner
from muxjax.placement.solve import ChosenUnit, solve, unit_throughputs
from tests.placement.reference import CASES, a100, case, needs_data, problem

A100 = Roofline(KNOWN_GPUS["a100-80gb"])


def llms(*loads: tuple[str, float]) -> tuple[LLM, ...]:
    return tuple(LLM(f"llm-{i}", KNOWN_MODELS[model], rate, 161, 337) for i, (model, rate) in enumerate(loads))


def check(placement: Placement, given: Problem) -> None:
    """Every LLM is placed once, and no mesh, node or memory holds more than it can."""
    by_name = {llm.name: llm for llm in given.llms}
    assert Counter(llm.name for unit in placement.units for llm in unit.llms) == Counter(list(by_name))
    devices = Counter((unit.node, device) for unit in placement.units for device in unit.devices)
    assert set(devices) <= set(product(range(given.cluster.nnodes), range(given.cluster.ngpus_per_node)))
    assert all(count == 1 for count in devices.values())
    for unit in placement.units:
        members = [by_name[llm.name] for llm in unit.llms]
        memory_gb = unit.memory_per_gpu_gb * unit.gpus
        held = sum(placed.batch_size * llm.kv_gb_per_sequence for placed, llm in zip(unit.llms, members, strict=True))
        assert held <= kv_budget_gb(memory_gb, members) + 1e-9
        assert sum(llm.shape.weight_gb for llm in members) <= weight_budget_gb(memory_gb)
        assert sum(llm.decode_share for llm in unit.llms) <= 120
        assert all(llm.tensor_parallel == unit.gpus for llm in unit.llms)
    served = sum(llm.throughput for unit in placement.units for llm in unit.llms)
    assert placement.throughput == pytest.approx(served)
    assert placement.throughput <= placement.upper_bound * (1 + 1e-9)


@needs_data
@pytest.mark.parametrize("name", CASES)
def test_the_best_search_is_at_least_as_good_as_the_authors_and_leaves_no_gpu_idle(name: str) -> None:
    given = problem(name)
    best = solve(given, a100(), "best")
    check(best, given)
    assert sum(unit.gpus for unit in best.units if unit.llms) == given.cluster.gpus
    for search in ("published", "greedy"):
        try:
            assert best.throughput >= solve(given, a100(), search).throughput * (1 - 1e-9)
        except PlacementError:
            continue


@needs_data
@pytest.mark.parametrize("name", [name for name in CASES if case(name).get("exhaustive_optimum")])
def test_the_exact_search_proves_at_least_the_throughput_of_every_other(name: str) -> None:
    given = problem(name)
    exact = solve(given, a100(), "exact")
    check(exact, given)
    assert exact.gap == pytest.approx(0, abs=1e-9)
    assert exact.throughput >= solve(given, a100(), "best").throughput * (1 - 1e-9)
    assert exact.throughput >= solve(given, a100(), "published").throughput


@needs_data
@pytest.mark.parametrize("name", [name for name in CASES if case(name).get("exhaustive_optimum")])
def test_the_authors_estimate_of_their_exhaustive_optimum_is_theirs(name: str) -> None:
    from muxjax.placement.muxserve.candidates import find_candidates

    given, costs = problem(name), Costs(a100())
    candidates = find_candidates(given, costs)
    index = {llm.name: place for place, llm in enumerate(given.llms)}
    optimum = case(name)["exhaustive_optimum"]
    total = 0.0
    for gpus, names in optimum["placement"]:
        members = [(given.llms[index[llm]], candidates[index[llm]][gpus].share) for llm in names]
        total += estimate_mesh(gpus, 80.0 * gpus, members, costs).mean * sum(llm.rate for llm, _ in members)
    assert total / sum(llm.rate for llm in given.llms) == pytest.approx(optimum["best_tpt"], abs=1e-9)


def test_the_planner_finds_what_trying_everything_finds() -> None:
    given = Problem(Cluster(1, 1, 80), llms(("llama-7b", 6.0), ("qwen2.5-1.5b", 40.0)))
    costs = Costs(A100)
    plan = UnitPlanner(given, costs).plan(1, (0, 1))
    assert plan is not None
    tried = max(
        sum(unit_throughputs(given, costs, ChosenUnit(1, (0, 1), shares, batches)))
        for shares in ((30, 90), (60, 60), (90, 30), (50, 70), (70, 50), (40, 80), (80, 40))
        for batches in product(range(4, 256, 12), range(4, 256, 12))
    )
    assert plan.throughput >= tried * 0.999


@drawn(st.integers(1, 300), st.integers(1, 40))
def test_ranges_have_every_batch_size_once(most: int, count: int) -> None:
    found = [size for least, largest in ranges(most, count) for size in range(least, largest + 1)]
    assert found == list(range(1, most + 1))


def test_more_ranges_of_batches_bring_the_bound_nearer_to_the_optimum_but_never_below_it() -> None:
    loads = [("llama-7b", 60.0), ("llama-13b", 30.0), ("llama-13b", 9.0), ("llama-30b", 6.0)]
    given = Problem(Cluster(1, 4, 80), llms(*loads))
    planner = UnitPlanner(given, Costs(A100))
    coarse, fine = (upper_bound(given, planner, fine=fine) for fine in (False, True))
    assert solve(given, A100, "exact").throughput <= fine * (1 + 1e-9)
    assert fine < 0.99 * coarse


def test_best_equals_exact_on_a_small_cluster() -> None:
    loads = [("llama-7b", 9.0), ("llama-13b", 4.0), ("llama-7b", 0.5), ("llama-30b", 1.0), ("llama-7b", 0.5)]
    given = Problem(Cluster(1, 4, 80), llms(*loads))
    best, exact = solve(given, A100, "best"), solve(given, A100, "exact")
    assert best.throughput == pytest.approx(exact.throughput)
    check(best, given)


@pytest.mark.parametrize("greedy", [(), (("llama-7b", 1000.0),)])
def test_of_the_placements_that_serve_what_can_be_served_it_takes_one_with_headroom(
    greedy: tuple[tuple[str, float], ...],
) -> None:
    def loads(scale: float) -> Problem:
        modest = [("llama-7b", scale * 8.0 / (i + 1)) for i in range(5)]
        return Problem(Cluster(1 + len(greedy), 8, 80), llms(*modest, *greedy))

    placement, larger = solve(loads(1.0), A100, "best"), loads(1.5)
    planner = UnitPlanner(larger, Costs(A100))
    units = [(unit.gpus, [int(llm.name.removeprefix("llm-")) for llm in unit.llms]) for unit in placement.units]
    modest = [(gpus, members) for gpus, members in units if members != [5]]
    assert len(units) - len(modest) == len(greedy), "who asks for more than there is has a mesh alone"
    asked = sum(llm.rate for llm in larger.llms[:5])
    assert sum(planner.throughput(gpus, members) for gpus, members in modest) == pytest.approx(asked)


def test_the_same_problem_has_the_same_answer() -> None:
    given = Problem(Cluster(2, 8, 80), llms(*[("llama-7b", 20.0 / (i + 1)) for i in range(12)], ("llama-65b", 1.0)))
    assert solve(given, A100, "best").units == solve(given, A100, "best").units


@pytest.mark.parametrize("ngpus", [1, 2, 3, 6, 8])
def test_nodes_of_any_size_are_filled(ngpus: int) -> None:
    given = Problem(Cluster(2, ngpus, 80), llms(("llama-7b", 30.0), ("llama-7b", 3.0), ("llama-7b", 1.0)))
    best = solve(given, A100, "best")
    check(best, given)


def test_hundreds_of_llms_are_placed() -> None:
    models = ("llama-7b", "llama-7b", "llama-13b", "llama-30b")
    given = Problem(Cluster(25, 8, 80), llms(*[(models[i % 4], 40 / (1 + i % 97) ** 1.3) for i in range(200)]))
    best = solve(given, A100, "best")
    check(best, given)
    assert best.gap < 0.1


def test_llms_that_do_not_fit_are_named_with_what_is_missing() -> None:
    with pytest.raises(PlacementError, match=r"models.0: llm-0 \(llama-65b\) does not fit: .* 86.8 GB are missing"):
        solve(Problem(Cluster(4, 1, 80), llms(("llama-65b", 1.0))), A100, "best")
    crowded = Problem(Cluster(1, 1, 80), llms(("llama-13b", 1.0), ("llama-13b", 2.0)))
    with pytest.raises(PlacementError, match=r"8.8 GB are missing; it would fit without llm-0, or on 2 nodes"):
        solve(crowded, A100, "best")


def test_nodes_split_as_the_authors_list_them() -> None:
    assert [len(list(node_splits(gpus))) for gpus in (1, 2, 4, 6, 8)] == [1, 2, 4, 6, 10]
    assert list(node_splits(4)) == [(4,), (2, 2), (2, 1, 1), (1, 1, 1, 1)]


@pytest.mark.parametrize(
    ("sizes", "possible"), [((4, 4, 2, 2), True), ((4, 4, 4), False), ((2,) * 6, True), ((4, 4, 1, 1, 1, 1, 1), False)]
)
def test_meshes_fit_if_they_can_be_cut_from_the_nodes(sizes: tuple[int, ...], possible: bool) -> None:
    assert fits(Cluster(2, 6, 80), sizes) is possible
