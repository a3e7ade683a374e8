"""Alg. 1 of MuxServe: LLMs by computation need, each on the mesh whose estimate grows most."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations_with_replacement
from math import comb

from muxjax.placement.errors import PlacementError
from muxjax.placement.job_times import Costs
from muxjax.placement.muxserve.candidates import Candidate, find_candidates
from muxjax.placement.muxserve.estimate import MeshEstimate, estimate_mesh
from muxjax.placement.problem import LLM, Problem
from muxjax.placement.rules import SHARE_LIMIT, node_splits, weight_budget_gb

_OVERHEAD_GB = 1.6 + 6  # beside its weights: an LLM's processes and activations
_MOST_GROUPS = 50_000


@dataclass(frozen=True, slots=True)
class GreedyRules:
    """In what the variants of the authors' code differ.

    Attributes:
        overhead_gb: taken from the weights' memory for every placed LLM, beside its weights.
        looks_up_by_position: the fault: a mesh's throughput so far and its size in ties are looked up by its place
            in a list that has been sorted since.
    """

    overhead_gb: float
    looks_up_by_position: bool


PUBLISHED = GreedyRules(overhead_gb=0.0, looks_up_by_position=True)
RELEASED = GreedyRules(overhead_gb=_OVERHEAD_GB, looks_up_by_position=True)
MENDED = GreedyRules(overhead_gb=_OVERHEAD_GB, looks_up_by_position=False)

Member = tuple[int, int]
"""An LLM by its index in the problem, and its decode share in percent."""


@dataclass(slots=True)
class Mesh:
    """GPUs that are being filled.

    Attributes:
        gpus: its size.
        free_gb: memory left for weights.
        free_share: compute share left, in percent.
        load: rate x compute scale per GPU so far, negative.
        members: what it holds.
        throughput: what its members are expected to bring (only the mended search keeps it here).
    """

    gpus: int
    free_gb: float
    free_share: int = 100
    load: float = 0.0
    members: tuple[Member, ...] = ()
    throughput: float = field(default=0.0)


@dataclass(frozen=True, slots=True)
class GreedyResult:
    """The best group of meshes.

    Attributes:
        objective: rate-weighted mean of the estimates.
        meshes: size, members and estimate of each, large meshes first.
    """

    objective: float
    meshes: tuple[tuple[int, tuple[Member, ...], MeshEstimate], ...]


def compute_scale(llm: LLM) -> int:
    """How much a request of the LLM costs, in powers of two, relative to LLaMA-7B: 1, 2, 4, 8 for 7B to 65B."""
    scale = 1
    while llm.shape.weight_gb / 14 > scale * 2**0.5:
        scale *= 2
    return scale


class GreedySearch:
    """Tries every group of meshes that the cluster's nodes can be split into.

    Raises:
        PlacementError: there are too many groups to try.
    """

    def __init__(self, problem: Problem, costs: Costs, rules: GreedyRules) -> None:
        splits = list(node_splits(problem.cluster.ngpus_per_node))
        self.num_groups = comb(len(splits) + problem.cluster.nnodes - 1, problem.cluster.nnodes)
        if self.num_groups > _MOST_GROUPS:
            raise PlacementError(
                f"cluster.nnodes: this search tries every way to split the nodes, here {self.num_groups:.1e}: "
                "use --search best"
            )
        self._problem, self._costs, self._rules = problem, costs, rules
        self._candidates = find_candidates(problem, costs)
        self._weights = [llm.shape.weight_gb for llm in problem.llms]
        self._scale = [compute_scale(llm) for llm in problem.llms]
        self._estimate = cache(self._make_estimate)

    def run(self, progress: Callable[[int, int], None] = lambda done, total: None) -> GreedyResult | None:
        """The best placement; None where no group of meshes can hold all LLMs."""
        smallest = max(min(sizes, default=8) for sizes in self._candidates)
        order, best = self._order(), None
        for number, group in enumerate(self._groups()):
            progress(number, self.num_groups)
            if len(group) > len(self._problem.llms) or max(group) < smallest:
                continue
            meshes = self._fill(group, order)
            result = self._evaluate(meshes) if meshes is not None else None
            if result is not None and (best is None or result.objective > best.objective):
                best = result
        return best

    def _groups(self) -> Iterator[list[int]]:
        splits = list(node_splits(self._problem.cluster.ngpus_per_node))
        for nodes in combinations_with_replacement(splits, self._problem.cluster.nnodes):
            yield [size for node in nodes for size in node]

    def _order(self) -> list[int]:
        """LLMs by computation need; equal ones by the smallest mesh that they need, as the code's two sorts do."""
        llms, scale = self._problem.llms, self._scale
        base = [min(sizes, default=8) for sizes in self._candidates]
        order = sorted(range(len(llms)), key=lambda i: (llms[i].rate * base[i], base[i]), reverse=True)
        return sorted(order, key=lambda i: (llms[i].rate * scale[i], scale[i]), reverse=True)

    def _fill(self, group: Sequence[int], order: Sequence[int]) -> list[Mesh] | None:
        memory_gb = self._problem.cluster.memory_per_gpu_gb
        meshes = [Mesh(size, weight_budget_gb(memory_gb * size)) for size in group]
        by_load = sorted(meshes, key=lambda mesh: (mesh.load, mesh.free_gb), reverse=True)
        so_far = [0.0] * len(meshes)
        for llm in order:
            best, best_gain = -1, -100.0
            for place, mesh in enumerate(by_load):
                candidate = self._candidates[llm].get(mesh.gpus)
                if candidate is None or not self._has_room(mesh, llm, candidate):
                    continue
                before = so_far[place] if self._rules.looks_up_by_position else mesh.throughput
                gain = self._estimate(mesh.gpus, (*mesh.members, (llm, candidate.share))).mean - before
                rivals = meshes if self._rules.looks_up_by_position else by_load
                if gain > best_gain or (gain == best_gain and mesh.gpus < rivals[best].gpus):
                    best, best_gain = place, gain
            if best < 0:
                return None
            so_far[best] += best_gain
            by_load[best].throughput += best_gain
            self._place(by_load[best], llm)
            by_load.sort(key=lambda mesh: (mesh.load, mesh.free_gb), reverse=True)
        return sorted(meshes, key=lambda mesh: mesh.gpus, reverse=True)

    def _has_room(self, mesh: Mesh, llm: int, candidate: Candidate) -> bool:
        fits = mesh.free_gb >= self._weights[llm]
        return fits and mesh.free_share + SHARE_LIMIT - 100 >= candidate.share

    def _place(self, mesh: Mesh, index: int) -> None:
        llm, candidate = self._problem.llms[index], self._candidates[index][mesh.gpus]
        mesh.load -= llm.rate * self._scale[index] / mesh.gpus
        mesh.free_gb -= llm.shape.weight_gb + self._rules.overhead_gb
        mesh.free_share -= candidate.share
        mesh.members = (*mesh.members, (index, candidate.share))

    def _evaluate(self, meshes: Sequence[Mesh]) -> GreedyResult:
        total = total_rate = 0.0
        found = []
        for mesh in meshes:
            estimate = self._estimate(mesh.gpus, mesh.members)
            rate = sum(self._problem.llms[llm].rate for llm, _ in mesh.members)
            total_rate += rate
            total += estimate.mean * rate
            found.append((mesh.gpus, mesh.members, estimate))
        return GreedyResult(total / total_rate, tuple(found))

    def _make_estimate(self, gpus: int, members: tuple[Member, ...]) -> MeshEstimate:
        llms = [(self._problem.llms[llm], share) for llm, share in members]
        return estimate_mesh(gpus, self._problem.cluster.memory_per_gpu_gb * gpus, llms, self._costs)
