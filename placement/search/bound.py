"""An upper bound on the throughput of any placement, from a linear program."""

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array

from muxjax.placement.problem import Problem
from muxjax.placement.rules import SHARE_LIMIT, beside_kv_gb, kv_budget_gb, mesh_sizes, weight_budget_gb
from muxjax.placement.search.unit_plan import UnitPlanner

_MOST_COLUMNS = 3_000  # with so many the program takes about half a second


def upper_bound(problem: Problem, planner: UnitPlanner, *, fine: bool = False) -> float:
    """Requests/s that no placement exceeds.

    LLMs may be divided over meshes, and meshes over GPUs. Kinds of LLMs (equal shape, rate and lengths) are counted,
    not named. The variables, for mesh sizes s, decode shares k and ranges of batch sizes b: meshes[s];
    placed[kind, s, k, b], LLMs there; served[kind, s, k, b], their requests/s. What holds for every placement holds for
    them:

    - served <= placed x the most throughput that the LLM has there alone;
    - weights, compute shares and LLMs on meshes of a size within what those meshes have;
    - a mesh does one prefill at a time: served x the least seconds of prefill a request costs, within the meshes;
    - a sequence is in memory from its prefill on: served x the least seconds of that x its KV, within the meshes'
      memory beside weights and activations; so are placed x the least batch x its KV.

    Args:
        problem: the cluster and its LLMs.
        planner: of the same problem.
        fine: divide the batch sizes into many ranges, for a lower bound that takes longer; otherwise one has them all.
    """
    cluster = problem.cluster
    sizes = mesh_sizes(cluster.ngpus_per_node)
    kinds = sorted(set(planner.kind))
    copies = np.bincount(planner.kind, minlength=len(planner.kind))
    options = [
        (row, place, option)
        for row, kind in enumerate(kinds)
        for place, size in enumerate(sizes)
        for option in planner.options(size, kind)
    ]
    parts = max(1, _MOST_COLUMNS // max(1, len(options))) if fine else 1
    columns = [(*option, batches) for option in options for batches in ranges(len(option[2].prefill) - 1, parts)]
    rows = _Rows()
    num = len(columns)
    meshes = [2 * num + place for place in range(len(sizes))]
    for column, (row, place, option, (least, most)) in enumerate(columns):
        llm = problem.llms[kinds[row]]
        placed, served = column, num + column
        prefill, alone = option.prefill[least : most + 1], (option.prefill + option.completion)[least : most + 1]
        batches = np.arange(least, most + 1)
        sequence_gb, beside_gb = llm.kv_gb_per_sequence, beside_kv_gb(llm)
        rows.add(("served", column), {served: 1.0, placed: -min(llm.rate, float((batches / alone).max()))})
        rows.add(("copies", row), {placed: 1.0})
        rows.add(("weights", place), {placed: llm.shape.weight_gb})
        rows.add(("shares", place), {placed: option.share})
        rows.add(("prefill", place), {served: float((prefill / batches).min())})
        rows.add(("memory", place), {placed: beside_gb, served: float(alone.min()) * sequence_gb})
        rows.add(("batches", place), {placed: beside_gb + least * sequence_gb})
    for place, size in enumerate(sizes):
        memory_gb = cluster.memory_per_gpu_gb * size
        rows.add(("weights", place), {meshes[place]: -weight_budget_gb(memory_gb)})
        rows.add(("shares", place), {meshes[place]: -SHARE_LIMIT})
        rows.add(("prefill", place), {meshes[place]: -1.0})
        rows.add(("memory", place), {meshes[place]: -kv_budget_gb(memory_gb, [])})
        rows.add(("batches", place), {meshes[place]: -kv_budget_gb(memory_gb, [])})
        rows.add(("gpus", 0), {meshes[place]: float(size)})
    limits = {("copies", row): float(copies[kind]) for row, kind in enumerate(kinds)} | {
        ("gpus", 0): float(cluster.gpus)
    }
    objective = np.zeros(2 * num + len(sizes))
    objective[num : 2 * num] = -1
    solution = linprog(objective, A_ub=rows.matrix(len(objective)), b_ub=rows.limits(limits), method="highs")
    asked = sum(llm.rate for llm in problem.llms)
    return min(asked, -float(solution.fun)) if solution.success else asked


def ranges(most: int, count: int) -> list[tuple[int, int]]:
    """Batch sizes from 1 to `most` in about so many ranges, each with its least and its largest."""
    ends = np.unique(np.geomspace(1, most, count + 1)[1:].round().astype(int)).tolist()
    return list(zip([1, *(end + 1 for end in ends[:-1])], ends, strict=True))


class _Rows:
    """A sparse matrix whose rows have names."""

    def __init__(self) -> None:
        self._index: dict[tuple[str, int], int] = {}
        self._entries: list[tuple[int, int, float]] = []

    def add(self, name: tuple[str, int], entries: dict[int, float]) -> None:
        """More entries of a row, by column."""
        row = self._index.setdefault(name, len(self._index))
        self._entries += ((row, column, value) for column, value in entries.items())

    def limits(self, given: dict[tuple[str, int], float]) -> list[float]:
        """The rows' right-hand sides: 0 where none is given."""
        return [given.get(name, 0.0) for name in self._index]

    def matrix(self, columns: int) -> coo_array:
        """The matrix."""
        row, column, value = zip(*self._entries, strict=True)
        return coo_array((value, (row, column)), shape=(len(self._index), columns))
