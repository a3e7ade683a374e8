"""Several decode steps at once, while nothing waits for a decision."""

from muxjax.serving.scheduler.share import LLMShare
from tests.serving.scheduler.units import PAGE, SmallUnit

MOST = 8


def make_unit(**shares: int | None) -> SmallUnit:
    """Two LLMs with two slots each."""
    share = LLMShare(1.0, 20 * PAGE, max_sequences=2, **shares)
    return SmallUnit("adbs", 64, {"a": share, "b": share})


def burst(unit: SmallUnit, most: int = MOST) -> int:
    """The next step, and how many steps it became; all are read."""
    unit.now += 1
    step = unit.scheduler.schedule(unit.now)
    assert step is not None
    steps = unit.scheduler.book_burst(step, most)
    for job in step.jobs:
        unit.scheduler.job_finished(job, unit.now)
        for _ in range(steps):
            unit.scheduler.tokens_read(job)
    return steps


def test_a_burst_books_what_so_many_steps_book() -> None:
    together, apart = make_unit(), make_unit()
    for unit in (together, apart):
        unit.add("a", prompt=PAGE - 3)
        unit.add("a", prompt=5)
        unit.add("b", prompt=2 * PAGE - 1)
        assert [burst(unit, 1) for _ in range(3)] == [1, 1, 1]
    assert [burst(together) for _ in range(4)] == [MOST] * 4
    assert [burst(apart, 1) for _ in range(4 * MOST)] == [1] * 4 * MOST
    for llm in ("a", "b"):
        states = [
            [(s.num_tokens, s.num_computed, s.unread, s.capacity) for s in unit.scheduler.queues[llm].decoding.values()]
            for unit in (together, apart)
        ]
        assert states[0] == states[1]
        assert together.pool.used(llm) == apart.pool.used(llm)


def test_a_prompt_that_can_be_admitted_keeps_decodes_to_one_step() -> None:
    unit = make_unit()
    unit.add("a", prompt=3)
    assert burst(unit) == 1, "a prefill"
    assert burst(unit) == MOST
    unit.add("b", prompt=3)
    assert burst(unit) == 1
    assert burst(unit) == MOST


def test_a_prompt_that_lacks_what_only_its_own_llm_can_give_does_not() -> None:
    unit = make_unit()
    for _ in range(3):
        unit.add("a", prompt=3)
    assert burst(unit) == 1
    assert len(unit.scheduler.queues["a"].waiting) == 1
    assert burst(unit) == MOST


def test_a_burst_ends_before_a_sequence_does() -> None:
    unit = make_unit()
    sequence = unit.add("a", prompt=3, output=7)
    assert [burst(unit) for _ in range(3)] == [1, 5, 1]
    assert sequence.is_complete


def test_a_burst_ends_where_a_sequence_has_to_begin_again() -> None:
    unit = make_unit(length_switch=10)
    sequence = unit.add("a", prompt=5)
    assert [burst(unit) for _ in range(2)] == [1, 5]
    assert (sequence.num_tokens, sequence.preemptions) == (11, 1)


def test_pages_are_booked_ahead_only_as_far_as_they_last() -> None:
    unit = SmallUnit("adbs", 6, {"a": LLMShare(1.0, 20 * PAGE)})
    for _ in range(2):
        unit.add("a", prompt=3, output=5 * PAGE)
    assert burst(unit, 1000) == 1
    steps = burst(unit, 1000)
    assert 1 < steps < 3 * PAGE
    assert not any(sequence.preemptions for sequence in unit.scheduler.queues["a"].decoding.values())
    unit.pool.check_integrity()
