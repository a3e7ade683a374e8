"""ADBS, a test for each clause of Alg. 3 (numbered as in `ADBS`)."""

from dataclasses import replace
from itertools import pairwise

import pytest

from muxjax.serving.scheduler.adbs import ADBS
from muxjax.serving.scheduler.job import JobKind
from muxjax.serving.scheduler.sequence import SequenceState
from muxjax.serving.scheduler.share import LLMShare
from tests.serving.scheduler.units import PAGE, SmallUnit, chunks, names

PREFILL, DECODE = JobKind.PREFILL, JobKind.DECODE
SHARE = LLMShare(rate=1.0, max_context=8 * PAGE)


def computing(prefill: float, **decode: float) -> dict[str, LLMShare]:
    """Shares of LLMs whose prefills and decodes hold so much compute."""
    return {llm: replace(SHARE, prefill_compute=prefill, decode_compute=share) for llm, share in decode.items()}


# 1. Quotas start from popularity and size.


def test_quotas_start_from_popularity_and_size() -> None:
    unit = SmallUnit("adbs", 200, {"a": replace(SHARE, rate=3.0), "b": SHARE})
    assert (unit.pool.quota("a"), unit.pool.quota("b")) == (150, 50)


# 2. If no prefill is in flight, the next LLM's in turn starts.


def test_prefills_take_turns() -> None:
    unit = SmallUnit("adbs", 200, dict.fromkeys("abc", SHARE), max_prefill_sequences=1)
    for llm in "aaabbc":
        unit.add(llm, prompt=5)
    prefills = [step[0] for step in unit.run(6)]
    assert prefills == ["prefill a", "prefill b", "prefill c", "prefill a", "prefill b", "prefill a"]


def test_chunks_of_a_long_prompt_take_turns_with_other_llms() -> None:
    unit = SmallUnit("adbs", 200, dict.fromkeys("ab", SHARE), max_prefill_tokens=10)
    unit.add("a", prompt=30)
    unit.add("b", prompt=10)
    assert [step[0] for step in unit.run(4)] == ["prefill a", "prefill b", "prefill a", "prefill a"]


def test_one_prefill_is_in_flight_at_a_time() -> None:
    unit = SmallUnit("adbs", 200, dict.fromkeys("ab", SHARE))
    unit.add("a", prompt=5)
    unit.add("b", prompt=5)
    (first,) = unit.start()
    assert unit.start() == []
    unit.end(first)
    assert names(unit.start()) == ["prefill b", "decode a"]


def test_an_llm_with_nothing_to_prefill_loses_no_turn() -> None:
    unit = SmallUnit("adbs", 200, dict.fromkeys("abc", SHARE), max_prefill_sequences=1)
    for llm in "bcb":
        unit.add(llm, prompt=5)
    unit.step()
    unit.add("a", prompt=5)
    assert [step[0] for step in unit.run(3)] == ["prefill a", "prefill c", "prefill b"]


# 3. If its resources are short it waits for them.


def test_while_a_prefill_waits_for_compute_no_decode_starts() -> None:
    unit = SmallUnit("adbs", 200, computing(prefill=1.0, a=0.5, b=0.3, c=0.3), compute=1.2)
    unit.add("a", prompt=5)
    unit.step()
    unit.add("b", prompt=5)
    unit.step()
    decodes = unit.start()
    assert names(decodes) == ["decode a", "decode b"]
    unit.add("c", prompt=5)
    assert unit.start() == []
    unit.end(decodes[0])
    assert unit.start() == []  # 0.3 in flight: a's decode would fit, but not the prefill
    unit.end(decodes[1])
    assert names(unit.start()) == ["prefill c"]  # and with it no decode fits


def test_no_other_prefill_passes_the_one_that_waits_for_compute() -> None:
    shares = computing(prefill=1.0, a=0.5) | computing(prefill=0.2, b=0.2)
    unit = SmallUnit("adbs", 200, shares)
    unit.add("a", prompt=5)
    unit.step()
    decodes = unit.start()
    unit.add("b", prompt=5)
    (prefill,) = unit.start()
    unit.end(prefill)
    unit.add("a", prompt=5)
    unit.add("b", prompt=5)
    assert unit.start() == []
    unit.end(*decodes)
    assert names(unit.start()) == ["prefill a"]


def test_while_a_prefill_waits_for_blocks_decodes_leave_them_free() -> None:
    unit = SmallUnit("adbs", 8, dict.fromkeys("ab", SHARE))
    full = unit.add("a", prompt=2 * PAGE)
    roomy = unit.add("a", prompt=2 * PAGE - 8)
    unit.step()
    waiting = unit.add("b", prompt=5 * PAGE)
    assert chunks(unit.step(), DECODE) == [(roomy.id, 2 * PAGE - 8, 1)]
    assert unit.pool.free_blocks == 4
    assert full.num_computed == 2 * PAGE
    unit.scheduler.abort(roomy.id, unit.now)
    step = unit.step()
    assert chunks(step, PREFILL) == [(waiting.id, 0, 5 * PAGE)]
    assert chunks(step, DECODE) == [(full.id, 2 * PAGE, 1)]


def test_no_one_is_preempted_while_others_can_free_blocks() -> None:
    unit = SmallUnit("adbs", 8, dict.fromkeys("ab", SHARE))
    full, roomy = unit.add("a", prompt=3 * PAGE), unit.add("a", prompt=3 * PAGE - 8)
    unit.step()
    unit.pool.allocate("b", sequence_id=999, num_pages=2)
    unit.add("b", prompt=PAGE)
    assert chunks(unit.step(), DECODE) == [(roomy.id, 3 * PAGE - 8, 1)]
    assert (full.preemptions, roomy.preemptions) == (0, 0)


def test_decodes_that_alone_can_free_blocks_go_on() -> None:
    unit = SmallUnit("adbs", 8, dict.fromkeys("ab", SHARE))
    running = unit.add("a", prompt=4 * PAGE, output=PAGE + 1)
    unit.step()
    waiting = unit.add("b", prompt=5 * PAGE)
    for _ in range(PAGE):
        assert chunks(unit.step(), PREFILL) == []
    assert running.state is SequenceState.FINISHED
    assert chunks(unit.step(), PREFILL) == [(waiting.id, 0, 5 * PAGE)]


def test_decodes_that_alone_can_free_blocks_preempt_for_them() -> None:
    unit = SmallUnit("adbs", 8, dict.fromkeys("ab", SHARE))
    old, young = (unit.add("a", prompt=3 * PAGE, output=40) for _ in range(2))
    unit.step()
    unit.pool.allocate("b", sequence_id=999, num_pages=2)
    unit.add("b", prompt=PAGE)
    assert chunks(unit.step(), DECODE) == [(old.id, 3 * PAGE, 1)]
    assert young.preemptions == 1


def test_a_prompt_that_was_begun_passes_the_prefill_that_waits_for_blocks() -> None:
    unit = SmallUnit("adbs", 8, dict.fromkeys("ab", SHARE), max_prefill_tokens=2 * PAGE)
    begun = unit.add("a", prompt=5 * PAGE)
    unit.step()
    unit.add("b", prompt=4 * PAGE)
    unit.add("a", prompt=PAGE)  # would fit, but is new
    assert chunks(unit.step(), PREFILL) == [(begun.id, 2 * PAGE, 2 * PAGE)]
    assert chunks(unit.step(), PREFILL) == [(begun.id, 4 * PAGE, PAGE)]


def test_no_new_prompt_passes_the_prefill_that_waits_for_blocks() -> None:
    unit = SmallUnit("adbs", 8, dict.fromkeys("ab", SHARE))
    unit.add("a", prompt=4 * PAGE - 8, output=7)
    unit.step()
    waiting = unit.add("b", prompt=5 * PAGE)
    small = unit.add("a", prompt=4)
    steps = [unit.step() for _ in range(6)]
    assert all(chunks(step, PREFILL) == [] for step in steps)
    assert chunks(unit.step(), PREFILL) == [(waiting.id, 0, 5 * PAGE)]
    assert chunks(unit.step(), PREFILL) == [(small.id, 0, 4)]


@pytest.mark.parametrize("short_of", ["slots", "quota"])
def test_an_llm_short_of_its_own_means_is_passed_over_and_keeps_its_turn(short_of: str) -> None:
    slots = 1 if short_of == "slots" else 32
    unit = SmallUnit("adbs", 100, {"a": replace(SHARE, max_sequences=slots), "b": SHARE}, max_prefill_sequences=1)
    unit.add("a", prompt=5, output=4)
    unit.step()
    if short_of == "quota":
        unit.pool.set_quota("a", 2)
    unit.add("a", prompt=5)
    for _ in range(3):
        unit.add("b", prompt=5)
    assert [step[0] for step in unit.run(3)] == ["prefill b", "prefill b", "prefill b"]
    unit.add("b", prompt=5)
    assert [step[0] for step in unit.run(2)] == ["prefill a", "prefill b"]


# 4. Otherwise decodes start in turn while compute and quota last.


def test_decodes_of_all_llms_start_together_if_they_fit() -> None:
    unit = SmallUnit("adbs", 100, computing(prefill=0.0, a=0.4, b=0.3, c=0.3))
    for llm in "abc":
        unit.add(llm, prompt=5)
    unit.run(3)
    assert sorted(names(unit.start())) == ["decode a", "decode b", "decode c"]


def test_decodes_take_turns_when_compute_is_short() -> None:
    unit = SmallUnit("adbs", 100, computing(prefill=0.0, a=0.4, b=0.4, c=0.4))
    for llm in "abc":
        unit.add(llm, prompt=5)
    unit.step()
    counts = dict.fromkeys("abc", 0)
    for _ in range(30):
        step = names(unit.step())
        assert sum("decode" in name for name in step) <= 2
        for name in step:
            counts[name[-1]] += "decode" in name
    assert max(counts.values()) - min(counts.values()) <= 2


def test_no_decode_passes_the_one_that_lacks_compute() -> None:
    unit = SmallUnit("adbs", 100, computing(prefill=0.0, a=0.5, b=0.9, c=0.1))
    for llm in "abc":
        unit.add(llm, prompt=5)
    for _ in range(3):
        unit.end(*[job for job in unit.start() if job.kind is PREFILL])
    # a's decode has been in flight since its prefill ended; b's is next and does not fit beside it
    assert unit.start() == []
    assert list(unit.scheduler.queues["c"].decoding)


def test_decodes_beside_a_prefill_take_the_compute_that_is_left() -> None:
    unit = SmallUnit("adbs", 100, computing(prefill=0.8, a=0.3, b=0.3), compute=1.2)
    for llm in "ab":
        unit.add(llm, prompt=5)
    unit.run(2)
    unit.add("a", prompt=5)
    assert names(unit.start()) == ["prefill a", "decode b"]


def test_decodes_stay_within_their_quota() -> None:
    unit = SmallUnit("adbs", 100, {"a": SHARE, "b": SHARE})
    old, young = (unit.add("a", prompt=2 * PAGE) for _ in range(2))
    unit.step()
    unit.pool.set_quota("a", 5)
    assert chunks(unit.step(), DECODE) == [(old.id, 2 * PAGE, 1)]
    assert (unit.pool.used("a"), young.preemptions) == (3, 1)


# 5. Quotas adapt periodically.


def busy_and_idle() -> SmallUnit:
    """LLM "a" uses nearly all its quota of 50 while requests wait, "b" little of its own."""
    unit = SmallUnit("adbs", 100, {"a": replace(SHARE, max_sequences=8), "b": SHARE})
    assert (unit.pool.quota("a"), unit.pool.quota("b")) == (50, 50)
    for _ in range(20):
        unit.add("a", prompt=6 * PAGE)
    unit.add("b", prompt=5)
    return unit


def test_quota_moves_to_the_llm_that_uses_nearly_all_of_its_own() -> None:
    unit = busy_and_idle()
    unit.run(20)
    assert unit.pool.quota("a") > 50
    assert unit.pool.quota("a") + unit.pool.quota("b") == 100


def test_quota_moves_to_the_llm_whose_prompts_wait_for_it_though_much_is_kept_for_running_sequences_to_grow() -> None:
    unit = SmallUnit("adbs", 100, {"a": replace(SHARE, max_sequences=32), "b": SHARE})
    for _ in range(40):
        unit.add("a", prompt=PAGE + 1)  # two pages, and one that is kept for each
    unit.run(9)
    assert unit.pool.used("a") < 0.9 * 50
    assert unit.scheduler.queues["a"].waiting
    assert unit.pool.quota("a") == 55
    unit.run(100)
    assert unit.pool.quota("a") + unit.pool.quota("b") == 100
    assert unit.pool.quota("b") >= SHARE.max_context // PAGE


def test_no_quota_moves_to_an_llm_that_waits_for_a_slot() -> None:
    unit = SmallUnit("adbs", 100, {"a": replace(SHARE, max_sequences=4), "b": SHARE})
    for _ in range(40):
        unit.add("a", prompt=PAGE + 1)
    unit.run(9)
    assert unit.pool.quota("a") == 50


def test_quotas_do_not_move_before_the_period_is_over() -> None:
    unit = busy_and_idle()
    unit.run(8)
    assert unit.pool.quota("a") == 50
    unit.step()
    assert unit.pool.quota("a") == 55


def test_quotas_move_once_a_period() -> None:
    unit = busy_and_idle()
    changes = []
    for _ in range(40):
        before = unit.pool.quota("a")
        unit.step()
        if unit.pool.quota("a") != before:
            changes.append(unit.now)
    assert changes
    assert all(later - earlier >= 8 for earlier, later in pairwise(changes))


def test_the_period_is_positive() -> None:
    with pytest.raises(ValueError, match="period must be positive, not 0"):
        ADBS(period=0)


# New prompts may gather, so that one prefill serves several of them.


def gathering(seconds: float) -> SmallUnit:
    """A unit in which a sequence of "a" decodes; `now` is 2."""
    unit = SmallUnit(ADBS(gather=seconds), 200, dict.fromkeys("ab", SHARE), max_prefill_tokens=2 * PAGE)
    unit.add("a", prompt=5)
    unit.run(2)
    return unit


def test_prompts_gather_while_something_decodes() -> None:
    unit = gathering(3)
    waiting = [unit.add("b", prompt=5)]
    assert names(unit.step()) == ["decode a"]
    waiting.append(unit.add("b", prompt=5))
    assert names(unit.step()) == ["decode a"]
    assert chunks(unit.step(), PREFILL) == [(sequence.id, 0, 5) for sequence in waiting], "the first has waited 3 s"


def test_prompts_that_fill_a_prefill_gather_no_longer() -> None:
    unit = gathering(100)
    unit.add("b", prompt=PAGE)
    assert names(unit.step()) == ["decode a"]
    unit.add("b", prompt=PAGE)
    assert names(unit.step()) == ["prefill b", "decode a"]


def test_the_rest_of_a_prompt_that_was_begun_does_not_gather() -> None:
    unit = gathering(100)
    unit.add("b", prompt=2 * PAGE + 4)
    assert [names(step)[0] for step in (unit.step(), unit.step())] == ["prefill b", "prefill b"]


def test_nothing_gathers_where_nothing_decodes() -> None:
    unit = SmallUnit(ADBS(gather=100), 200, dict.fromkeys("ab", SHARE))
    unit.add("b", prompt=5)
    assert names(unit.step()) == ["prefill b"]


def test_a_preempted_sequence_gathers_no_longer_than_it_has_been_there() -> None:
    unit = gathering(3)
    (old,) = unit.scheduler.queues["a"].decoding.values()
    unit.add("b", prompt=2 * PAGE)
    unit.run(2)
    unit.scheduler.restart(["a"], unit.now)
    assert chunks(unit.step(), PREFILL)[0][0] == old.id
