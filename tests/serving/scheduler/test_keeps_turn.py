"""`keeps_turn`: whose decode starts again when it ends, so that its steps can be booked without scheduling each."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muxjax.serving.scheduler.adbs import ADBS
from muxjax.serving.scheduler.fcfs import FCFS
from muxjax.serving.scheduler.policy import Policy
from muxjax.serving.scheduler.round_robin import RoundRobin
from muxjax.serving.scheduler.share import LLMShare
from tests.serving.scheduler.units import PAGE, SmallUnit, names

POLICIES = [ADBS, RoundRobin, FCFS]


def decoding(policy: Policy, order: str, **decodes: float) -> SmallUnit:
    """A unit in which sequences of these LLMs decode, the oldest of the first; one decode round is in flight."""
    shares = {llm: LLMShare(1.0, 99 * PAGE, decode_compute=compute) for llm, compute in decodes.items()}
    unit = SmallUnit(policy, 1000, shares)
    for llm in order:
        unit.add(llm, prompt=5, output=40 * PAGE)
    while any(queue.next_prefill for queue in unit.scheduler.queues.values()):
        unit.start()
        unit.end(*unit.in_flight)
    unit.start()
    return unit


def repeatable(unit: SmallUnit) -> dict[str, int]:
    """How many more steps each decode in flight may be booked."""
    return {job.llm: unit.scheduler.repeatable_steps(job) for job in unit.in_flight}


@pytest.mark.parametrize("policy", POLICIES)
def test_alone_a_decode_is_repeated_whatever_the_policy(policy: Callable[[], Policy]) -> None:
    assert repeatable(decoding(policy(), "a", a=0.6))["a"] > 0


@pytest.mark.parametrize("policy", [ADBS, RoundRobin])
def test_where_llms_take_turns_no_decode_is_repeated_while_another_waits(policy: Callable[[], Policy]) -> None:
    unit = decoding(policy(), "ab", a=0.6, b=0.6)
    (job,) = unit.in_flight
    assert repeatable(unit) == {job.llm: 0}
    unit.end(job)
    (other,) = unit.start()
    assert other.llm != job.llm


def test_first_come_first_served_repeats_the_decode_of_the_oldest_sequence() -> None:
    unit = decoding(FCFS(), "ba", a=0.6, b=0.6)
    assert names(unit.in_flight) == ["decode b"]
    assert repeatable(unit)["b"] > 0
    unit.end(*unit.in_flight)
    assert names(unit.start()) == ["decode b"]


def test_a_decode_beside_another_is_not_repeated_while_a_third_waits() -> None:
    unit = decoding(FCFS(), "abc", a=0.4, b=0.4, c=0.4)
    assert names(unit.in_flight) == ["decode a", "decode b"]
    assert repeatable(unit) == {"a": 0, "b": 0}


def test_a_decode_is_not_repeated_when_an_older_sequence_has_come_back() -> None:
    unit = decoding(FCFS(), "ab", a=0.6, b=0.6)
    (oldest,) = unit.scheduler.queues["a"].decoding.values()
    unit.end(*unit.in_flight)
    unit.scheduler.restart(["a"], unit.now)
    (decode,) = [job for job in unit.start() if job.llm == "b"]
    unit.end(*[job for job in unit.in_flight if job is not decode])
    assert oldest in unit.scheduler.queues["a"].decoding.values()
    assert repeatable(unit) == {"b": 0}
    unit.end(decode)
    assert names(unit.start()) == ["decode a"]


@given(
    st.sampled_from(POLICIES),
    st.text("abc", min_size=1, max_size=6),
    st.lists(st.integers(1, 10), min_size=3, max_size=3),
)
def test_whoever_may_be_repeated_is_who_would_be_scheduled(
    policy: Callable[[], Policy], order: str, tenths: list[int]
) -> None:
    decodes = {llm: tenth / 10 for llm, tenth in zip("abc", tenths, strict=True)}
    leapt, stepped = (decoding(policy(), order, **decodes) for _ in range(2))
    steps = repeatable(leapt)
    most = min(*steps.values(), 12) if len(steps) > 1 else min(next(iter(steps.values())), 12)
    for job in leapt.in_flight:
        leapt.scheduler.repeat_decode(job, most)
    for _ in range(most):
        before = names(stepped.in_flight)
        stepped.end(*stepped.in_flight)
        assert sorted(names(stepped.start())) == sorted(before)
    lengths = [
        {s.id: s.num_tokens for queue in unit.scheduler.queues.values() for s in queue.decoding.values()}
        for unit in (leapt, stepped)
    ]
    assert lengths[0] == lengths[1]
    for unit in (leapt, stepped):
        unit.end(*unit.in_flight)
        unit.start()
    assert sorted(names(leapt.in_flight)) == sorted(names(stepped.in_flight)), "and both go on alike"
