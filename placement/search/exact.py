"""The proven best choice of units for small clusters: all are planned, and an integer program chooses among them."""

from collections.abc import Callable
from itertools import combinations_with_replacement, product
from math import comb

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from muxjax.placement.errors import PlacementError
from muxjax.placement.problem import Problem
from muxjax.placement.rules import SHARE_LIMIT, mesh_sizes
from muxjax.placement.search.local import Members, Unit
from muxjax.placement.search.unit_plan import UnitPlanner

_MOST_UNITS = 25_000


class ExactSearch:
    """Over all meshes and all groups of LLMs on them; equal LLMs are counted, not named.

    What is best inside a unit (shares and batches) is the planner's, for which the proof takes its word.
    """

    def __init__(self, problem: Problem, planner: UnitPlanner) -> None:
        self._problem, self._planner = problem, planner
        self._sizes = mesh_sizes(problem.cluster.ngpus_per_node)
        self._kinds = sorted(set(planner.kind))
        self._copies = {kind: planner.kind.count(kind) for kind in self._kinds}
        shares = [
            option.share for kind in self._kinds for size in self._sizes for option in planner.options(size, kind)
        ]
        self._most_llms = min(len(planner.kind), SHARE_LIMIT // min(shares, default=SHARE_LIMIT))
        self.num_units = len(self._sizes) * sum(
            min(comb(len(planner.kind), count), comb(len(self._kinds) + count - 1, count))
            for count in range(1, self._most_llms + 1)
        )

    def run(self, progress: Callable[[int, int], None] = lambda done, total: None) -> tuple[float, list[Unit]] | None:
        """The optimum and its units; None where the LLMs do not fit on the cluster.

        Raises:
            PlacementError: there are too many possible units.
        """
        if self.num_units > _MOST_UNITS:
            raise PlacementError(
                f"models: --search exact plans every possible unit, here {self.num_units:,}, and at most "
                f"{_MOST_UNITS:,}: use --search best, which says how far it may be from the optimum"
            )
        units, values = self._possible_units(progress)
        chosen = self._choose(units, values)
        if chosen is None:
            return None
        return sum(values[index] * count for index, count in chosen), self._named(units, chosen)

    def _possible_units(self, progress: Callable[[int, int], None]) -> tuple[list[Unit], list[float]]:
        units: list[Unit] = []
        values: list[float] = []
        groups = (
            llms
            for count in range(1, self._most_llms + 1)
            for llms in combinations_with_replacement(self._kinds, count)
            if all(llms.count(kind) <= self._copies[kind] for kind in set(llms))
        )
        for number, (llms, size) in enumerate(product(groups, self._sizes)):
            progress(number, self.num_units)
            value = self._planner.throughput(size, llms)
            if value > -np.inf:
                units.append((size, llms))
                values.append(value)
        return units, values

    def _choose(self, units: list[Unit], values: list[float]) -> list[tuple[int, int]] | None:
        """How often each unit is taken: every LLM once, meshes within the nodes. None if that cannot be."""
        if not units:
            return None
        covered = np.array([[llms.count(kind) for _, llms in units] for kind in self._kinds])
        cluster = self._problem.cluster
        taken = np.array([[used / size if used >= size else 0 for used, _ in units] for size in self._sizes])
        slots = [cluster.nnodes * (cluster.ngpus_per_node // size) for size in self._sizes]
        copies = list(self._copies.values())
        solution = milp(
            -np.array(values),
            integrality=np.ones(len(units)),
            bounds=Bounds(0, np.inf),
            constraints=[LinearConstraint(covered, copies, copies), LinearConstraint(taken, -np.inf, slots)],
            options={"mip_rel_gap": 0.0},
        )
        if solution.x is None:
            return None
        counts = np.round(solution.x).astype(int)
        return [(int(index), int(counts[index])) for index in np.flatnonzero(counts)]

    def _named(self, units: list[Unit], chosen: list[tuple[int, int]]) -> list[Unit]:
        """The units with LLMs in the place of their kinds."""
        left = {kind: [llm for llm, other in enumerate(self._planner.kind) if other == kind] for kind in self._kinds}
        named: list[Unit] = []
        for index, count in chosen:
            size, kinds = units[index]
            for _ in range(count):
                llms: Members = tuple(left[kind].pop(0) for kind in kinds)
                named.append((size, llms))
        return named
