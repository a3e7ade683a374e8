"""An over-eager caller waits behind its own requests, and never takes the last places."""

import random

import pytest

from muxjax.serving.pool import Pool
from muxjax.serving.scheduler.errors import QueueFullError
from muxjax.serving.scheduler.places import has_place
from muxjax.serving.scheduler.policies import make_policy
from muxjax.serving.scheduler.scheduler import Scheduler
from muxjax.serving.scheduler.sequence import Sequence
from muxjax.serving.scheduler.share import LLMShare


def scheduler(max_waiting: int = 1000, total: int = 1 << 20, llms: str = "a") -> Scheduler:
    pool = Pool(200)
    shares = {llm: LLMShare(1.0, 64, max_sequences=1, max_waiting=max_waiting) for llm in llms}
    for llm in llms:
        pool.add_llm(llm, 1, 1, 64)
    return Scheduler(pool, shares, make_policy("fcfs"), max_waiting=total)


def add(scheduler: Scheduler, caller: str | None, llm: str = "a", ids: list[int] = [0]) -> None:  # noqa: B006
    ids[0] += 1
    scheduler.add(Sequence(ids[0], llm, 4, 6, 0.0, None, caller), 0.0)


def served(scheduler: Scheduler, count: int) -> str:
    """Whose sequences run next, one after another."""
    order = []
    while len(order) < count:
        step = scheduler.schedule(0.0)
        assert step is not None
        for job in step.jobs:
            scheduler.job_finished(job, 0.0)
            scheduler.tokens_read(job)
            sequence = job.chunks[0].sequence
            if sequence.is_complete:
                order.append(sequence.caller or "-")
                scheduler.finish(sequence, 0.0)
    return "".join(order)


def test_callers_are_served_in_turn_however_many_requests_each_sent() -> None:
    unit = scheduler()
    for _ in range(50):
        add(unit, "A")
    assert served(unit, 3) == "AAA"
    for _ in range(3):
        add(unit, "B")
    add(unit, "C")
    first = served(unit, 8)
    assert first.count("B") == 3
    assert first.index("C") < 4
    assert set(served(unit, 20)) == {"A"}


def test_who_comes_back_gets_no_credit_for_having_been_away() -> None:
    unit = scheduler()
    add(unit, "B")
    for _ in range(40):
        add(unit, "A")
    served(unit, 30)
    for _ in range(10):
        add(unit, "B")
    assert 4 <= served(unit, 10).count("B") <= 6


def test_without_names_the_oldest_is_first() -> None:
    unit = scheduler()
    sequences = [Sequence(1000 + index, "a", 4, 6, 0.0) for index in range(20)]
    for sequence in sequences:
        unit.add(sequence, 0.0)
    assert unit.queues["a"].waiting == sequences


def test_a_caller_fills_half_of_a_queue_and_the_next_one_half_of_the_rest() -> None:
    unit = scheduler(max_waiting=24)
    taken = {caller: fill(unit, caller) for caller in ("A", "B", "C")}
    assert taken == {"A": 12, "B": 6, "C": 3}
    for _ in range(3):
        add(unit, None)
    with pytest.raises(QueueFullError, match=r"queue of LLM 'a' is full \(24 sequences wait\)"):
        add(unit, None)


def fill(unit: Scheduler, caller: str, llm: str = "a") -> int:
    for count in range(1000):
        try:
            add(unit, caller, llm)
        except QueueFullError:
            return count
    raise AssertionError("it takes no end of requests")


def test_the_total_is_bounded_over_all_llms_and_shared_by_the_same_rule() -> None:
    unit = scheduler(total=40, llms="ab")
    assert fill(unit, "A", "a") == 20
    assert fill(unit, "A", "b") == 0
    assert fill(unit, "B", "b") == 10
    with pytest.raises(QueueFullError, match="the queue of all LLMs keeps its last 10 places for other callers"):
        add(unit, "A", "b")


@pytest.mark.parametrize("seed", range(20))
def test_places_never_run_over_and_a_newcomer_finds_one(seed: int) -> None:
    draw = random.Random(seed)
    limit = draw.randint(2, 60)
    held = dict.fromkeys("ABC", 0)
    for _ in range(500):
        caller = draw.choice("ABC")
        if draw.random() < 0.3:
            held[caller] = max(held[caller] - 1, 0)
        elif has_place(limit, sum(held.values()), lambda caller=caller: held[caller]):
            held[caller] += 1
        assert sum(held.values()) <= limit
        newcomer = has_place(limit, sum(held.values()), lambda: 0)
        assert newcomer or sum(held.values()) == limit
    alone = next(taken for taken in range(limit + 1) if not has_place(limit, taken, lambda taken=taken: taken))
    assert alone == (limit + 1) // 2
