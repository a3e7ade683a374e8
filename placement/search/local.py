"""The search for clusters of any size: merge units until they fit, then improve them by small moves."""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import count
from math import inf

from muxjax.placement.problem import Cluster, Problem
from muxjax.placement.rules import mesh_sizes
from muxjax.placement.search.unit_plan import UnitPlanner

Members = tuple[int, ...]
"""LLMs by their indices in the problem."""

Unit = tuple[int, Members]
"""Mesh size and LLMs."""

Progress = Callable[[float], None]
"""Told the throughput so far."""

_SMALL = 1e-9  # gains below this are rounding
_PLANS, _PLANS_PER_LLM = 170, 17  # after which it stops improving
_PARTNERS = 24  # units that each unit is tried with: all of them, or as many by chance


def fits(cluster: Cluster, sizes: Iterable[int]) -> bool:
    """Whether meshes of these sizes (powers of two) can be cut from the nodes."""
    counts, taken = Counter(sizes), 0
    for size in reversed(mesh_sizes(cluster.ngpus_per_node)):
        taken = taken * 2 + counts[size]
        if taken > cluster.nnodes * (cluster.ngpus_per_node // size):
            return False
    return True


class LocalSearch:
    """Deterministic: its effort is bounded in units planned, not in time; it ends early when `bound` is reached."""

    def __init__(self, problem: Problem, planner: UnitPlanner, bound: float, progress: Progress) -> None:
        self._cluster, self._planner = problem.cluster, planner
        self._llms = range(len(problem.llms))
        self._rates = [llm.rate for llm in problem.llms]
        self._weights = [llm.shape.weight_gb for llm in problem.llms]
        self._sizes = mesh_sizes(problem.cluster.ngpus_per_node)
        self._random = random.Random(0)
        self._most_plans = _PLANS + _PLANS_PER_LLM * len(problem.llms)
        self._enough = bound * (1 - _SMALL)
        self._progress = progress

    def run(self) -> list[Unit] | None:
        """The best units found; None where not even merging made the LLMs fit."""
        units = self._merge([(self._first_size(llm), (llm,)) for llm in self._llms])
        if units is None:
            return None
        units = self._improve(units)
        while self._total(units) < self._enough and (better := self._reshape(units)) is not None:
            units = better
        return spread(units, self._cluster, self._planner)

    def _first_size(self, llm: int) -> int:
        """The smallest mesh on which the LLM alone reaches the most that it reaches anywhere."""
        return max(self._sizes, key=lambda size: (self._planner.alone(size, llm), -size))

    def _merge(self, units: Sequence[Unit]) -> list[Unit] | None:
        """Merge pairs of units, or halve meshes, where that loses least for each GPU freed, until all units fit.

        What a merge loses is first guessed from below, and calculated when it seems the best.
        """
        alive, newest = dict(enumerate(units)), len(units)
        heap: list[tuple[float, int, bool, tuple[int, ...], Unit]] = []
        number = count()

        def push(places: tuple[int, ...], new: Unit, *, exact: bool) -> None:
            olds = [alive[place] for place in places]
            value = self._planner.throughput(*new) if exact else self._planner.at_most(*new)
            freed = sum(size for size, _ in olds) - new[0]
            if value > -inf:
                heappush(heap, ((self._total(olds) - value) / freed, next(number), exact, places, new))

        def consider(places: tuple[int, ...]) -> None:
            sizes = [alive[place][0] for place in places]
            llms = tuple(llm for place in places for llm in alive[place][1])
            for size in self._sizes:
                if max(sizes) <= 2 * size < 2 * sum(sizes):
                    push(places, (size, llms), exact=False)

        def consider_all(place: int, partners: Sequence[int]) -> None:
            consider((place,))
            for partner in partners:
                consider((partner, place))

        for place in alive:
            consider_all(place, self._sample(range(place)))
        while not fits(self._cluster, (size for size, _ in alive.values())):
            if not heap:
                return self._dissolve(list(alive.values()))
            _, _, exact, places, unit = heappop(heap)
            if any(place not in alive for place in places):
                continue
            if not exact:
                push(places, unit, exact=True)
                continue
            for place in places:
                del alive[place]
            partners, newest = self._sample(list(alive)), newest + 1
            alive[newest] = unit
            consider_all(newest, partners)
        return list(alive.values())

    def _dissolve(self, units: list[Unit]) -> list[Unit] | None:
        """Where no pair can merge, take units apart, those with the least weight first, and move LLMs one by one."""
        weights = self._weights
        while not fits(self._cluster, (size for size, _ in units)):
            for unit in sorted(units, key=lambda unit: sum(weights[llm] for llm in unit[1]) / unit[0]):
                rest = [other for other in units if other is not unit]
                for llm in sorted(unit[1], key=lambda llm: -weights[llm]):
                    gains = [
                        (self._total([(size, (*llms, llm))]) - self._total([(size, llms)]), place)
                        for place, (size, llms) in enumerate(rest)
                    ]
                    gain, place = max(gains, default=(-inf, 0))
                    if gain == -inf:
                        break
                    rest[place] = (rest[place][0], (*rest[place][1], llm))
                else:
                    units = rest
                    break
            else:
                return None
        return units

    def _improve(self, units: list[Unit]) -> list[Unit]:
        """Take moves of one or two units as long as they bring more."""
        improved = True
        while improved and not self._is_over() and self._total(units) < self._enough:
            improved = False
            for place in sorted(range(len(units)), key=lambda place: -self._missing(units[place])):
                if self._missing(units[place]) <= _SMALL:
                    break
                better = self._better(units, place)
                if better is not None:
                    units, improved = better, True
                    self._report(units)
                    break
        return units

    def _better(self, units: list[Unit], place: int) -> list[Unit] | None:
        """The units after the best move of one of them, alone or with another; None if no move helps."""
        best_gain, best = _SMALL, None
        others = [other for other in range(len(units)) if other != place]
        for partner in (None, *self._sample(others)):
            olds = [units[place]] if partner is None else [units[place], units[partner]]
            before = self._total(olds)
            if sum(self._rates[llm] for _, llms in olds for llm in llms) - before <= best_gain:
                continue
            rest = [unit for other, unit in enumerate(units) if other not in (place, partner)]
            sizes = [size for size, _ in rest]
            guesses = [(sum(self._planner.at_most(*unit) for unit in news), news) for news in self._alternatives(olds)]
            for promised, news in sorted(guesses, key=lambda guess: guess[0], reverse=True):
                if promised - before <= best_gain:
                    break
                if fits(self._cluster, (*sizes, *(size for size, _ in news))):
                    gain = self._total(news) - before
                    if gain > best_gain:
                        best_gain, best = gain, rest + news
        return best

    def _alternatives(self, olds: Sequence[Unit]) -> Iterator[list[Unit]]:
        """Other ways to run the LLMs of one or two units: larger meshes, two parts, one moved, two exchanged."""
        if len(olds) == 1:
            ((size, llms),) = olds
            yield from ([(larger, llms)] for larger in self._sizes if larger > size)
            for llm in llms if len(llms) > 1 else ():
                rest = tuple(other for other in llms if other != llm)
                yield from ([(one, (llm,)), (two, rest)] for one in self._sizes for two in self._sizes if two <= size)
            return
        (size, llms), (other_size, other_llms) = olds
        for first, second in self._divisions(llms, other_llms):
            for one, two in self._resized(size, other_size):
                yield [unit for unit in ((one, first), (two, second)) if unit[1]]

    def _divisions(self, left: Members, right: Members) -> Iterator[tuple[Members, Members]]:
        yield left, right
        yield from (((*left, llm), tuple(i for i in right if i != llm)) for llm in right)
        yield from ((tuple(i for i in left if i != llm), (*right, llm)) for llm in left)
        for mine in left:
            for yours in right:
                if self._planner.kind[mine] != self._planner.kind[yours]:
                    yield (
                        tuple(yours if llm == mine else llm for llm in left),
                        tuple(mine if llm == yours else llm for llm in right),
                    )

    def _resized(self, one: int, two: int) -> Iterator[tuple[int, int]]:
        total = one + two
        for first in self._sizes:
            seconds = [second for second in self._sizes if first + second <= total]
            if seconds:
                yield first, seconds[-1]

    def _reshape(self, units: list[Unit]) -> list[Unit] | None:
        """Give a unit that misses throughput more GPUs, or one of its LLMs its own, and merge others to make room."""
        before = self._total(units)
        for unit in sorted(units, key=self._missing, reverse=True):
            if self._missing(unit) <= _SMALL or self._is_over():
                return None
            rest = [other for other in units if other is not unit]
            for news in self._alternatives([unit]):
                if self._total(news) <= self._total([unit]) + _SMALL:
                    continue
                merged = self._merge([*rest, *news])
                if merged is not None and self._total(merged) > before - self._missing(unit):
                    improved = self._improve(merged)
                    if self._total(improved) > before + _SMALL:
                        return improved
        return None

    def _total(self, units: Iterable[Unit]) -> float:
        return sum(self._planner.throughput(*unit) for unit in units)

    def _missing(self, unit: Unit) -> float:
        return sum(self._rates[llm] for llm in unit[1]) - self._planner.throughput(*unit)

    def _sample(self, places: Sequence[int]) -> Sequence[int]:
        return places if len(places) <= _PARTNERS else self._random.sample(places, _PARTNERS)

    def _is_over(self) -> bool:
        return self._planner.num_planned > self._most_plans

    def _report(self, units: Sequence[Unit]) -> None:
        self._progress(self._total(units))


def spread(units: list[Unit], cluster: Cluster, planner: UnitPlanner) -> list[Unit]:
    """Use GPUs that are still idle: the most crowded units come apart, then meshes double, if nothing is lost."""
    sizes = mesh_sizes(cluster.ngpus_per_node)
    changed = True
    while changed:
        changed = False
        for unit in sorted(units, key=lambda unit: (len(unit[1]) > 1, len(unit[1]) / unit[0]), reverse=True):
            size, llms = unit
            rest = [other for other in units if other is not unit]
            news = [[(small, llms[:1]), (size, llms[1:])] for small in sizes] if len(llms) > 1 else [[(2 * size, llms)]]
            for parts in news:
                kept = sum(planner.throughput(*part) for part in parts) >= planner.throughput(*unit) - _SMALL
                if kept and all(part[0] in sizes for part in parts) and fits(cluster, [s for s, _ in rest + parts]):
                    units, changed = rest + parts, True
                    break
            if changed:
                break
    return units
