"""Memory pressure: who is preempted, who is not, and what becomes of them."""

import pytest

from muxjax.serving.scheduler.job import JobKind
from muxjax.serving.scheduler.sequence import SequenceState
from muxjax.serving.scheduler.share import LLMShare
from tests.serving.scheduler.units import PAGE, SmallUnit, chunks, names

PREFILL, DECODE = JobKind.PREFILL, JobKind.DECODE


def crowded(num_blocks: int = 8, max_sequences: int = 32) -> SmallUnit:
    """LLMs "a" and "b", each with a quota of the whole pool, as the pool holds but one full context."""
    share = LLMShare(1.0, num_blocks * PAGE, max_sequences)
    unit = SmallUnit("adbs", num_blocks, {"a": share, "b": share})
    assert unit.pool.quota("a") == unit.pool.quota("b") == num_blocks
    return unit


def test_the_newest_of_the_llm_that_is_short_of_quota_is_preempted() -> None:
    unit = SmallUnit("round_robin", 16, {"a": LLMShare(1.0, 8 * PAGE), "b": LLMShare(1.0, 8 * PAGE)})
    old, middle = (unit.add("a", prompt=2 * PAGE) for _ in range(2))
    unit.step()
    newest_of_unit = unit.add("b", prompt=PAGE)
    unit.run(3)
    unit.pool.set_quota("a", 6)
    unit.run(2 * PAGE)
    assert (old.preemptions, middle.preemptions, newest_of_unit.preemptions) == (0, 1, 0)
    assert unit.pool.used("a") <= 6
    assert unit.scheduler.queues["a"].preemptions == 1


def test_the_newest_of_the_unit_is_preempted_when_the_pool_is_short() -> None:
    unit = crowded()
    old = unit.add("a", prompt=4 * PAGE)
    unit.step()
    new = unit.add("b", prompt=3 * PAGE - 4)
    unit.run(PAGE)
    assert unit.pool.free_blocks == 0
    assert new.preemptions == 0
    while not new.preemptions:
        unit.step()
    assert old.num_tokens > 5 * PAGE
    assert (new.state, new.slot, new.num_computed) == (SequenceState.WAITING, None, 0)
    assert unit.pool.used("b") == 0


@pytest.mark.parametrize("growth_room", [True, False])
def test_a_prompt_that_leaves_no_room_to_grow_waits_unless_told_otherwise(growth_room: bool) -> None:
    unit = SmallUnit("fcfs", 8, {"a": LLMShare(1.0, 8 * PAGE)}, growth_room=growth_room)
    unit.add("a", prompt=4 * PAGE)
    unit.step()
    new = unit.add("a", prompt=4 * PAGE)
    unit.run(2)
    assert (new.slot is None, new.preemptions) == ((True, 0) if growth_room else (True, 1))


def test_llms_above_their_quota_give_first() -> None:
    unit = crowded(num_blocks=12)
    old = unit.add("a", prompt=4 * PAGE - 1)
    above = unit.add("b", prompt=3 * PAGE)
    unit.run(2)
    new = unit.add("a", prompt=PAGE)
    unit.step()
    unit.pool.set_quota("b", 2)
    unit.pool.allocate("a", sequence_id=999, num_pages=unit.pool.free_blocks)
    while old.capacity < 6 * PAGE:
        unit.step()
    assert (above.preemptions, new.preemptions) == (1, 0)


def test_an_older_sequence_is_never_preempted_for_a_newer_one() -> None:
    unit = crowded()
    old = unit.add("a", prompt=5 * PAGE)
    unit.step()
    new = unit.add("b", prompt=2 * PAGE)
    unit.run(3 * PAGE)
    assert old.preemptions == 0
    assert old.num_tokens == old.max_length
    assert new.preemptions == 1


def test_a_sequence_without_a_page_stalls_while_others_go_on() -> None:
    unit = crowded()
    old = unit.add("a", prompt=5 * PAGE + 1, output=10)
    unit.step()
    new = unit.add("b", prompt=2 * PAGE)
    assert "prefill b" in names(unit.step())
    assert chunks(unit.step(), DECODE) == [(old.id, 5 * PAGE + 2, 1)]
    assert (new.preemptions, new.num_computed, new.num_tokens) == (0, 2 * PAGE, 2 * PAGE + 1)
    while old.state is not SequenceState.FINISHED:
        unit.step()
    assert chunks(unit.step(), DECODE) == [(new.id, 2 * PAGE, 1)]


def test_no_more_are_preempted_than_the_rest_needs() -> None:
    unit = crowded(num_blocks=6)
    old, middle, new = (unit.add("a", prompt) for prompt in (PAGE, PAGE - 4, PAGE))
    unit.step()
    unit.pool.allocate("b", sequence_id=999, num_pages=3)
    unit.step()
    assert (old.preemptions, middle.preemptions, new.preemptions) == (0, 0, 1)
    assert old.capacity == 2 * PAGE


def test_a_preempted_sequence_recomputes_all_its_tokens_before_newer_ones_start() -> None:
    unit = crowded(max_sequences=2)
    old, young, late = (unit.add("a", prompt=2 * PAGE, output=3 * PAGE) for _ in range(3))
    while not young.preemptions:
        unit.step()
    num_tokens = young.num_tokens
    assert num_tokens > 3 * PAGE
    while not young.num_computed:
        assert late.num_computed == 0
        step = unit.step()
    assert old.state is SequenceState.FINISHED
    assert chunks(step, PREFILL)[0] == (young.id, 0, num_tokens)
    assert young.num_tokens == num_tokens + 1


def test_a_preempted_sequence_waits_until_its_tokens_are_read() -> None:
    unit = crowded(num_blocks=4)
    old, young = (unit.add("a", prompt=PAGE, output=20) for _ in range(2))
    unread = []
    while not young.preemptions:
        jobs = unit.start()
        unread += jobs
        for job in jobs:
            unit.scheduler.job_finished(job, unit.now)
    unit.scheduler.abort(old.id, unit.now)
    assert young.unread > 0
    assert unit.start() == []
    for job in unread:
        unit.scheduler.tokens_read(job)
    assert young.unread == 0
    assert chunks(unit.start(), PREFILL) == [(young.id, 0, young.num_tokens - 1)]


def test_a_sequence_in_flight_is_not_preempted() -> None:
    unit = crowded(num_blocks=6)
    old = unit.add("a", prompt=3 * PAGE)
    unit.step()
    new = unit.add("b", prompt=3 * PAGE)
    (job,) = [job for job in unit.start() if job.kind is PREFILL]
    assert new.in_flight
    assert unit.start() == []  # the old one needs a page, but waits for the job
    unit.end(job)
    assert chunks(unit.start(), DECODE) == [(old.id, 3 * PAGE, 1)]
    assert new.preemptions == 1


def test_a_prompt_half_way_is_preempted_for_an_older_sequence() -> None:
    share = LLMShare(1.0, 10 * PAGE)
    unit = SmallUnit("adbs", 10, {"a": share, "b": share, "c": share}, max_prefill_tokens=2 * PAGE)
    old = unit.add("a", prompt=2 * PAGE - 2)
    unit.step()
    middle, new = unit.add("b", prompt=4 * PAGE), unit.add("c", prompt=4 * PAGE)
    unit.run(2)
    assert (new.num_computed, new.num_tokens, old.capacity) == (2 * PAGE, 4 * PAGE, 2 * PAGE)
    unit.step()
    assert (new.num_computed, new.preemptions, old.capacity) == (0, 1, 3 * PAGE)
    assert middle.preemptions == 0


def test_a_complete_sequence_is_not_preempted() -> None:
    unit = crowded(num_blocks=4)
    unit.add("a", prompt=2 * PAGE)
    new = unit.add("b", prompt=PAGE, output=1)
    (first,) = unit.start()
    unit.scheduler.job_finished(first, 0.0)
    unit.pool.allocate("a", sequence_id=999, num_pages=1)
    (second,) = unit.start()
    unit.scheduler.job_finished(second, 0.0)
    assert names([second]) == ["prefill b"]
    assert unit.start() == []
    assert (new.preemptions, new.is_complete) == (0, True)
    unit.scheduler.finish(new, 0.0)
    assert names(unit.start()) == ["decode a"]


def test_admission_leaves_running_sequences_a_page_each() -> None:
    unit = SmallUnit("adbs", 6, {"a": LLMShare(1.0, 6 * PAGE)})
    unit.add("a", prompt=2 * PAGE)
    unit.add("a", prompt=2 * PAGE)
    unit.add("a", prompt=2 * PAGE)
    assert [chunk[0] for chunk in chunks(unit.step(), PREFILL)] == [1, 2]


def test_preempted_sequences_are_reported_with_the_step() -> None:
    unit = crowded(num_blocks=4)
    old, young = (unit.add("a", prompt=PAGE, output=20) for _ in range(2))
    steps = [unit.step() for _ in range(PAGE + 5)]
    assert [step.preempted for step in steps if step and step.preempted] == [(young,)]
    assert old.preemptions == 0
