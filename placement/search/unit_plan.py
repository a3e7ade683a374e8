"""The best shares and batches of a unit: max_S sum_m min(tpt_S(m), rate_m) of MuxServe, section 3.1.

tpt(m) = batch_m / (sum_i t_prefill_i + t_decode_m * output_len_m), under the mesh's KV memory and compute shares.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from muxjax.placement.cost.cost_model import Seconds
from muxjax.placement.job_times import Costs, JobTimes
from muxjax.placement.problem import LLM, Problem
from muxjax.placement.rules import SHARE_LIMIT, kv_budget_gb, weight_budget_gb

_MOST_STEPS = 12  # batch sizes of one LLM that are combined with those of the others
_ROUNDS = 50
_NEAR_BEST = 0.99


@dataclass(frozen=True, slots=True)
class UnitPlan:
    """How the LLMs of a unit run.

    Attributes:
        throughput: requests/s, the sum over LLMs, each at most its rate.
        shares: decode shares in percent.
        batches: sequences that decode together.
    """

    throughput: float
    shares: tuple[int, ...]
    batches: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ShareOption:
    """One LLM on a mesh with one decode share.

    Attributes:
        share: in percent.
        prefill: seconds by batch size.
        completion: seconds of all decode steps by batch size.
        patience: by batch size, the most seconds of prefills (its own and the others') beside which this or a smaller
            batch still reaches the rate; never falls.
        steps: batch sizes after which times rise, or some of them.
        alone: requests/s without other LLMs, at most the rate.
        prefill_per_request: the least seconds of prefill, by batch size, that a request costs.
    """

    share: int
    prefill: Seconds
    completion: Seconds
    patience: list[float]
    steps: NDArray[np.intp]
    alone: float
    prefill_per_request: float


class _Combination(NamedTuple):
    """Batches that are steps of the shares chosen, and what they bring in requests/s."""

    throughput: float
    chosen: tuple[ShareOption, ...]
    batches: NDArray[np.intp]


class UnitPlanner:
    """Plans units of a problem's LLMs, which it knows by their indices; equal questions are answered once."""

    def __init__(self, problem: Problem, costs: Costs, *, thorough: bool = False) -> None:
        """`thorough`: try batches between steps everywhere, not only where steps come near the best; takes longer."""
        self._llms, self._costs = problem.llms, costs
        self._near_best = 0.0 if thorough else _NEAR_BEST
        self._memory_gb = problem.cluster.memory_per_gpu_gb
        kinds: dict[tuple[object, ...], int] = {}
        self.kind = [
            kinds.setdefault((llm.shape, llm.rate, llm.prompt_len, llm.output_len), index)
            for index, llm in enumerate(self._llms)
        ]
        self._options = cache(self._make_options)
        self._alone = cache(self._make_alone)
        self._plan = cache(self._make_plan)

    def plan(self, gpus: int, llms: Sequence[int]) -> UnitPlan | None:
        """The best plan found for these LLMs, in their order; None where they do not fit on the mesh."""
        order = sorted(range(len(llms)), key=lambda place: self.kind[llms[place]])
        plan = self._plan(gpus, tuple(self.kind[llms[place]] for place in order))
        if plan is None or len(llms) < 2:
            return plan
        back = sorted(range(len(llms)), key=order.__getitem__)
        return UnitPlan(plan.throughput, tuple(plan.shares[i] for i in back), tuple(plan.batches[i] for i in back))

    def throughput(self, gpus: int, llms: Sequence[int]) -> float:
        """That of the best plan; minus infinity where the LLMs do not fit."""
        plan = self._plan(gpus, tuple(sorted(self.kind[llm] for llm in llms)))
        return -np.inf if plan is None else plan.throughput

    @property
    def num_planned(self) -> int:
        """Different units planned so far."""
        return self._plan.cache_info().misses

    def alone(self, gpus: int, llm: int) -> float:
        """The most that an LLM can reach on a mesh, whatever is beside it; 0 where it does not fit."""
        return self._alone(gpus, self.kind[llm])[0]

    def at_most(self, gpus: int, llms: Sequence[int]) -> float:
        """Quickly, what no plan for these LLMs can exceed: each alone, and one prefill at a time."""
        total, time = 0.0, 1.0
        for seconds, alone in sorted(self._alone(gpus, self.kind[llm])[::-1] for llm in llms):
            served = min(alone, time / seconds) if seconds else 0.0
            total, time = total + served, time - served * seconds
        return total

    def options(self, gpus: int, llm: int) -> tuple[ShareOption, ...]:
        """An LLM's shares on a mesh; none where it cannot run there."""
        return self._options(gpus, self.kind[llm])

    def _make_options(self, gpus: int, index: int) -> tuple[ShareOption, ...]:
        llm = self._llms[index]
        memory_gb = self._memory_gb * gpus
        held = int(kv_budget_gb(memory_gb, [llm]) // llm.kv_gb_per_sequence)
        unfit = llm.shape.weight_gb > weight_budget_gb(memory_gb) or held < 1
        if unfit or gpus not in self._costs.gpu_counts(llm):
            return ()
        shares = self._costs.decode_shares(llm, gpus)
        return tuple(_share_option(llm, share, self._costs.times(llm, gpus, share), held) for share in shares)

    def _make_alone(self, gpus: int, index: int) -> tuple[float, float]:
        """The most requests/s, and the least seconds of prefill that each costs."""
        options = self._options(gpus, index)
        if not options:
            return 0.0, 0.0
        return max(option.alone for option in options), min(option.prefill_per_request for option in options)

    def _make_plan(self, gpus: int, llms: tuple[int, ...]) -> UnitPlan | None:
        members = [self._llms[index] for index in llms]
        memory_gb = self._memory_gb * gpus
        kv_gb = kv_budget_gb(memory_gb, members)
        options = [self._options(gpus, index) for index in llms]
        sequences_gb = [llm.kv_gb_per_sequence for llm in members]
        too_heavy = sum(llm.shape.weight_gb for llm in members) > weight_budget_gb(memory_gb)
        if too_heavy or sum(sequences_gb) > kv_gb or not all(options):
            return None
        rates = [llm.rate for llm in members]
        best, found = 0.0, list[_Combination]()
        for chosen in _by_promise(options):
            if found and sum(option.alone for option in chosen) <= best:
                break
            if (enough := _satisfy(chosen, rates, sequences_gb, kv_gb)) is not None:
                return enough
            found.append(_combine(chosen, rates, sequences_gb, kv_gb))
            best = max(best, found[-1].throughput)
        refined = (
            _refine(combination, rates, sequences_gb, kv_gb)
            for combination in found
            if combination.throughput >= best * self._near_best
        )
        return max(refined, key=lambda plan: plan.throughput, default=None)


def _share_option(llm: LLM, share: int, times: JobTimes, held: int) -> ShareOption:
    most = max(1, min(held, times.max_batch))
    prefill, completion = times.prefill[: most + 1], times.completion[: most + 1]
    batches = np.arange(most + 1)
    patience = batches / llm.rate - completion
    patience[0] = -np.inf
    rises = (np.diff(prefill) > 0) | (np.diff(times.decode[: most + 1]) > 0)
    steps = np.append(np.flatnonzero(rises[1:]) + 1, most)
    if len(steps) > _MOST_STEPS:
        steps = np.unique(np.geomspace(1, most, _MOST_STEPS).round().astype(np.intp))
    return ShareOption(
        share=share,
        prefill=prefill,
        completion=completion,
        patience=np.maximum.accumulate(patience).tolist(),
        steps=steps,
        alone=min(llm.rate, float((batches[1:] / (prefill + completion)[1:]).max())),
        prefill_per_request=float((prefill[1:] / batches[1:]).min()),
    )


def _by_promise(options: Sequence[tuple[ShareOption, ...]]) -> list[tuple[ShareOption, ...]]:
    """Combinations of shares that leave no usable rest, those first whose LLMs, alone, would reach most."""
    offered = tuple(tuple(option.share for option in of_one) for of_one in options)
    combinations = [
        tuple(of_one[place] for of_one, place in zip(options, places, strict=True))
        for places in _full_shares(offered, SHARE_LIMIT)
    ]

    def promise(chosen: tuple[ShareOption, ...]) -> tuple[float, float]:
        return sum(option.alone for option in chosen), min(option.patience[-1] for option in chosen)

    return sorted(combinations, key=promise, reverse=True)


@cache
def _full_shares(offered: tuple[tuple[int, ...], ...], limit: int) -> list[tuple[int, ...]]:
    """Places of one share of each offer, ascending, that keep to the limit and of which none can be raised.

    >>> _full_shares(((30, 60, 90), (30, 60, 90)), 120)
    [(0, 2), (1, 1), (2, 0)]
    """
    if not offered:
        return [()]
    first, others = offered[0], offered[1:]
    least = sum(shares[0] for shares in others)
    found = []
    for place, share in enumerate(first):
        if share + least <= limit:
            for rest in _full_shares(others, limit - share):
                left = limit - sum(shares[at] for shares, at in zip(offered, (place, *rest), strict=True))
                if place + 1 == len(first) or first[place + 1] - share > left:
                    found.append((place, *rest))
    return found


def _satisfy(
    chosen: Sequence[ShareOption], rates: Sequence[float], sequences_gb: Sequence[float], kv_gb: float
) -> UnitPlan | None:
    """The smallest batches with which every LLM reaches its rate; None where there are none.

    Batches and the time of all prefills rise together from below to their least fixed point.
    """
    waiting = 0.0
    for _ in range(_ROUNDS):
        batches = [bisect_left(option.patience, waiting) for option in chosen]
        if any(batch == len(option.patience) for batch, option in zip(batches, chosen, strict=True)):
            return None
        prefills = sum(float(option.prefill[batch]) for batch, option in zip(batches, chosen, strict=True))
        if prefills <= waiting:
            if sum(size * batch for size, batch in zip(sequences_gb, batches, strict=True)) > kv_gb:
                return None
            return UnitPlan(sum(rates), tuple(option.share for option in chosen), tuple(batches))
        waiting = prefills
    return None


def _combine(
    chosen: tuple[ShareOption, ...], rates: Sequence[float], sequences_gb: Sequence[float], kv_gb: float
) -> _Combination:
    """The best of all combinations of steps."""
    grid = np.stack([axis.ravel() for axis in np.meshgrid(*(option.steps for option in chosen), indexing="ij")])
    smallest = np.ones((len(chosen), 1), np.intp)
    grid = np.hstack([smallest, grid[:, np.array(sequences_gb) @ grid <= kv_gb]])
    values = _throughput(chosen, rates, grid)
    place = int(values.argmax())
    return _Combination(float(values[place]), chosen, grid[:, place])


def _refine(start: _Combination, rates: Sequence[float], sequences_gb: Sequence[float], kv_gb: float) -> UnitPlan:
    """Each LLM's batch in turn, as long as that brings more: the optimum may lie between steps."""
    best, chosen, batches = start
    improved = True
    while improved:
        improved = False
        for place, option in enumerate(chosen):
            others = float(np.dot(sequences_gb, batches)) - sequences_gb[place] * batches[place]
            most = min(len(option.prefill) - 1, int((kv_gb - others) / sequences_gb[place] * (1 - 1e-12)))
            tried = np.repeat(batches[:, None], max(1, most), axis=1)
            tried[place] = np.arange(1, max(1, most) + 1)
            values = _throughput(chosen, rates, tried)
            if values.max() > best * (1 + 1e-9):
                best, batches, improved = float(values.max()), tried[:, values.argmax()], True
    return UnitPlan(best, tuple(option.share for option in chosen), tuple(int(batch) for batch in batches))


def _throughput(chosen: Sequence[ShareOption], rates: Sequence[float], batches: NDArray[np.intp]) -> Seconds:
    """Requests/s for every column of batches[llm, column]."""
    waiting = sum(option.prefill[row] for option, row in zip(chosen, batches, strict=True))
    return np.sum(
        [
            np.minimum(row / (waiting + option.completion[row]), rate)
            for option, row, rate in zip(chosen, batches, rates, strict=True)
        ],
        axis=0,
    )
