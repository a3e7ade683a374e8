"""Turns, and `passing`: whether decodes beside a prefill pass those that lack compute (ADBS and round-robin alike)."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.serving.scheduler.adbs import ADBS
from muxjax.serving.scheduler.policy import Policy
from muxjax.serving.scheduler.round_robin import RoundRobin
from muxjax.serving.scheduler.share import LLMShare
from muxjax.serving.scheduler.turns import Turns
from tests.serving.scheduler.units import PAGE, SmallUnit, names

COMPUTE = 1.2
BOTH = pytest.mark.parametrize("policy", [ADBS, RoundRobin])


def decoding(policy: Policy, prefill: float, **decodes: float) -> SmallUnit:
    """A unit in which a sequence of every LLM decodes, and nothing is in flight; LLMs have turns in their order."""
    shares = {llm: LLMShare(1.0, 99 * PAGE, prefill_compute=prefill, decode_compute=c) for llm, c in decodes.items()}
    unit = SmallUnit(policy, 1000, shares, compute=COMPUTE)
    for llm in decodes:
        unit.add(llm, prompt=5)
    while not all(queue.decoding for queue in unit.scheduler.queues.values()):
        unit.start()
        unit.end(*unit.in_flight)
    for llm in decodes:
        policy.decode_repeated(llm, [])  # its turn is over
    return unit


def held(unit: SmallUnit) -> float:
    """The compute that jobs in flight hold."""
    shares = {llm: queue.share for llm, queue in unit.scheduler.queues.items()}
    return sum(getattr(shares[job.llm], f"{job.kind.value}_compute") for job in unit.in_flight)


def test_who_was_served_goes_to_the_end_and_who_was_not_keeps_its_place() -> None:
    turns = Turns()
    assert turns.among("abc") == ["a", "b", "c"]
    for llm in "ba":
        turns.served(llm)
    assert turns.among("abc") == ["c", "b", "a"]
    assert turns.among("ab") == ["b", "a"]


@given(st.lists(st.sampled_from("abcd"), max_size=30))
def test_the_longest_unserved_is_first(served: list[str]) -> None:
    turns = Turns()
    for llm in served:
        turns.served(llm)
    last = {llm: max((place for place, other in enumerate(served) if other == llm), default=-1) for llm in "abcd"}
    order = turns.among("abcd")
    assert [last[llm] for llm in order] == sorted(last.values())


@BOTH
def test_with_passing_a_decode_that_fits_beside_a_prefill_starts_before_one_that_does_not(policy) -> None:
    started = {}
    for passing in (False, True):
        unit = decoding(policy(passing=passing), prefill=0.8, large=0.5, small=0.3, last=0.3)
        unit.add("last", prompt=5)
        started[passing] = names(unit.start())
    assert started[False] == ["prefill last"], "what large waits for is left to it"
    assert started[True] == ["prefill last", "decode small"]


@BOTH
def test_who_was_passed_is_the_first_when_the_prefill_has_ended(policy) -> None:
    unit = decoding(policy(passing=True), prefill=0.8, large=0.7, small=0.3, other=0.3)
    unit.add("other", prompt=5)
    jobs = unit.start()
    assert names(jobs) == ["prefill other", "decode small"]
    unit.end(*jobs)
    assert names(unit.start()) == ["decode large", "decode other"]


@BOTH
def test_an_llm_with_a_large_share_is_passed_for_as_long_as_one_prefill_follows_another(policy) -> None:
    unit = decoding(policy(passing=True), prefill=0.8, large=0.5, small=0.3)
    for _ in range(20):
        unit.add("small", prompt=5)
        assert "decode large" not in names(unit.step())
    assert names(unit.start())[0] == "decode large"


@BOTH
def test_without_a_prefill_in_flight_no_decode_passes_another(policy) -> None:
    unit = decoding(policy(passing=True), prefill=0.8, first=0.8, large=0.5, small=0.3)
    assert names(unit.start()) == ["decode first"]


@BOTH
def test_no_decode_passes_a_prefill_that_waits_for_compute(policy) -> None:
    unit = decoding(policy(passing=True), prefill=1.0, a=0.3, b=0.3)
    first, second = unit.start()
    unit.add("b", prompt=5)
    unit.end(first)
    assert unit.start() == []
    unit.end(second)
    assert names(unit.start()) == ["prefill b"]


@given(
    st.sampled_from([ADBS, RoundRobin]),
    st.lists(st.integers(1, 12), min_size=2, max_size=6),
    st.integers(1, 12),
)
def test_passing_leaves_no_compute_beside_a_prefill_that_a_decode_could_use(
    policy: Callable[..., Policy], tenths: list[int], prefill: int
) -> None:
    decodes = {f"llm{place}": tenth / 10 for place, tenth in enumerate(tenths)}
    started = {}
    for passing in (False, True):
        unit = decoding(policy(passing=passing), prefill=prefill / 10, **decodes)
        unit.add("llm0", prompt=5)
        started[passing] = names(unit.start())
        assert started[passing][0] == "prefill llm0"
        left = COMPUTE - held(unit)
        assert left > -1e-9
        if passing:
            assert all(f"decode {llm}" in started[True] or decodes[llm] > left for llm in decodes)
    assert started[True][: len(started[False])] == started[False], "those that need not pass start first"
