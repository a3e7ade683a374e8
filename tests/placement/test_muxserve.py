"""MuxServe's searches come out as its authors published them."""

from typing import Any

import pytest

from muxjax.placement.errors import PlacementError
from muxjax.placement.placement import Placement
from muxjax.placement.problem import Cluster, Problem
from muxjax.placement.solve import solve
from tests.placement.reference import CASES, a100, case, needs_data, problem

RESULTS = {
    "published": "reference_published_rule",
    "released": "reference_as_is",
    "greedy": "reference_index_fixed",
}


def shown(placement: Placement) -> list[Any]:
    return [
        (unit.gpus, [(llm.name, llm.decode_share, llm.batch_size) for llm in unit.llms])
        for unit in placement.units
        if unit.llms
    ]


def expected(result: dict[str, Any]) -> list[Any]:
    meshes = result.get("meshes") or result["placement"]
    return [(mesh["ngpus"], [settings(llm) for llm in mesh["models"]]) for mesh in meshes if mesh["models"]]


def settings(llm: Any) -> tuple[str, int, int]:
    """Name, decode share and batch size, of either form in the files."""
    if isinstance(llm, dict):
        return llm["name"], llm["decoding_mps"], llm["mesh_batch_size"]
    return llm[0], llm[2], llm[4]


@needs_data
@pytest.mark.parametrize("search", RESULTS)
@pytest.mark.parametrize("name", CASES)
def test_the_authors_results_are_reproduced(name: str, search: str) -> None:
    result = case(name).get(RESULTS[search])
    if result is None:
        pytest.skip("the case has no result of this search")
    if result["best_tpt"] is None:
        with pytest.raises(PlacementError, match="finds no meshes"):
            solve(problem(name), a100(), search)
        return
    placement = solve(problem(name), a100(), search)
    assert sorted(unit.gpus for unit in placement.units) == sorted(result["mesh_group"])
    assert shown(placement) == expected(result)
    assert placement.authors_objective == pytest.approx(result["best_tpt"], abs=1e-9)
    assert placement.throughput <= placement.upper_bound


@needs_data
def test_too_many_groups_of_meshes_are_refused() -> None:
    given = problem("readme_basic_1x4")
    with pytest.raises(PlacementError, match=r"cluster.nnodes: .* use --search best"):
        solve(Problem(Cluster(128, 8, 80), given.llms), a100(), "published")
