"""First come, first served."""

from hypothesis import given
from hypothesis import strategies as st

from muxjax.serving.scheduler.fcfs import FCFS
from muxjax.serving.scheduler.job import JobKind
from muxjax.serving.scheduler.sequence import SequenceState
from muxjax.serving.scheduler.share import LLMShare
from tests.serving.scheduler.units import PAGE, SmallUnit, chunks, names

PREFILL, DECODE = JobKind.PREFILL, JobKind.DECODE
SHARE = LLMShare(rate=1.0, max_context=8 * PAGE)


def test_everyone_may_use_the_whole_pool() -> None:
    unit = SmallUnit("fcfs", 20, dict.fromkeys("ab", SHARE))
    assert unit.pool.quota("a") == unit.pool.quota("b") == 20


def test_the_oldest_prompt_starts_first_whatever_its_llm() -> None:
    unit = SmallUnit("fcfs", 100, dict.fromkeys("ab", SHARE), max_prefill_sequences=1)
    for llm in "bbab":
        unit.add(llm, prompt=5)
    assert [step[0] for step in unit.run(4)] == ["prefill b", "prefill b", "prefill a", "prefill b"]


def test_a_long_prompt_is_done_before_newer_ones_start() -> None:
    unit = SmallUnit("fcfs", 100, dict.fromkeys("ab", SHARE), max_prefill_tokens=10)
    unit.add("a", prompt=30)
    unit.add("b", prompt=10)
    assert [step[0] for step in unit.run(4)] == ["prefill a", "prefill a", "prefill a", "prefill b"]


def test_a_small_prompt_does_not_pass_one_that_waits_for_blocks() -> None:
    unit = SmallUnit("fcfs", 8, dict.fromkeys("ab", SHARE))
    running = unit.add("a", prompt=4 * PAGE, output=3)
    unit.step()
    large, small = unit.add("b", prompt=5 * PAGE), unit.add("a", prompt=4)
    assert [names(unit.step()) for _ in range(2)] == [["decode a"], ["decode a"]]
    assert running.state is SequenceState.FINISHED
    assert chunks(unit.step(), PREFILL) == [(large.id, 0, 5 * PAGE)]
    assert chunks(unit.step(), PREFILL) == [(small.id, 0, 4)]


def test_a_prompt_that_was_begun_passes_one_that_waits_for_blocks() -> None:
    unit = SmallUnit("fcfs", 8, dict.fromkeys("ab", SHARE), max_prefill_tokens=2 * PAGE)
    old = unit.add("a", prompt=PAGE, output=3)
    unit.step()
    middle, begun = unit.add("a", prompt=4 * PAGE), unit.add("b", prompt=3 * PAGE)
    unit.scheduler.queues["a"].waiting.clear()  # as if it had been preempted later on
    unit.step()
    unit.scheduler.queues["a"].enqueue(middle)
    assert (old.state, begun.num_computed) == (SequenceState.RUNNING, 2 * PAGE)
    unit.add("b", prompt=PAGE)  # would fit, but is new
    assert chunks(unit.step(), PREFILL) == [(begun.id, 2 * PAGE, PAGE)]
    assert middle.slot is None


def test_an_llm_without_slots_does_not_keep_others_waiting() -> None:
    unit = SmallUnit("fcfs", 100, {"a": LLMShare(1.0, 128, max_sequences=1), "b": SHARE})
    for llm in "aab":
        unit.add(llm, prompt=5)
    assert [step[0] for step in unit.run(2)] == ["prefill a", "prefill b"]


def test_decodes_start_oldest_first_until_one_lacks_compute() -> None:
    share = LLMShare(1.0, 128, decode_compute=0.6)
    unit = SmallUnit("fcfs", 100, {"a": share, "b": share, "c": LLMShare(1.0, 128, decode_compute=0.2)})
    for llm in "bac":
        unit.add(llm, prompt=5)
    unit.run(3)
    (decode,) = unit.start()
    assert decode.llm == "b"
    assert unit.start() == []


def test_nothing_passes_a_prefill_that_waits_for_compute() -> None:
    share = LLMShare(1.0, 128, prefill_compute=1.0, decode_compute=0.3)
    unit = SmallUnit("fcfs", 100, dict.fromkeys("abc", share))
    unit.add("a", prompt=5)
    unit.step()
    (decode,) = unit.start()
    unit.add("b", prompt=5)
    assert unit.start() == []
    unit.end(decode)
    assert names(unit.start()) == ["prefill b"]


# Strict: no prefill passes the oldest one.


def test_strictly_an_llm_without_slots_keeps_others_waiting() -> None:
    shares = {"a": LLMShare(1.0, 128, max_sequences=1), "b": SHARE}
    unit = SmallUnit(FCFS(strict=True), 100, shares)
    for llm in "aab":
        unit.add(llm, prompt=5, output=3)
    assert unit.run(4) == [["prefill a"], ["decode a"], ["decode a"], ["prefill a"]], "b waits for both of a"
    assert names(unit.step()) == ["prefill b", "decode a"]


def test_strictly_a_prompt_that_was_begun_does_not_pass_one_that_waits_for_blocks() -> None:
    unit = SmallUnit(FCFS(strict=True), 8, dict.fromkeys("ab", SHARE), max_prefill_tokens=2 * PAGE)
    unit.add("a", prompt=PAGE, output=3)
    unit.step()
    middle, begun = unit.add("a", prompt=4 * PAGE), unit.add("b", prompt=3 * PAGE)
    unit.scheduler.queues["a"].waiting.clear()  # as if it had been preempted later on
    unit.step()
    unit.scheduler.queues["a"].enqueue(middle)
    unit.pool.allocate("b", sequence_id=999, num_pages=unit.pool.free_blocks)
    assert chunks(unit.step(), PREFILL) == []
    assert begun.num_computed == 2 * PAGE


def test_strictly_decodes_go_on_while_the_oldest_prompt_waits() -> None:
    unit = SmallUnit(FCFS(strict=True), 8, dict.fromkeys("ab", SHARE))
    unit.add("a", prompt=4 * PAGE, output=3)
    unit.step()
    unit.add("b", prompt=5 * PAGE)
    assert [names(unit.step()) for _ in range(3)] == [["decode a"], ["decode a"], ["prefill b"]]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3 * PAGE), st.integers(2, 30)), min_size=1, max_size=12),
    st.integers(6, 20),
    st.integers(1, 3),
)
def test_strictly_prompts_start_in_the_order_of_their_arrival(
    requests: list[tuple[str, int, int]], blocks: int, slots: int
) -> None:
    share = LLMShare(1.0, 6 * PAGE, max_sequences=slots, prefill_compute=0.8, decode_compute=0.3)
    unit = SmallUnit(FCFS(strict=True), blocks, dict.fromkeys("abc", share), compute=1.2, max_prefill_sequences=1)
    sequences = [unit.add(llm, prompt, output) for llm, prompt, output in requests]
    started: list[int] = []
    for _ in range(2000):
        step = unit.step()
        started += [sequence for sequence, start, _ in chunks(step, PREFILL) if start == 0 and sequence not in started]
        if not unit.scheduler.has_unfinished:
            break
    assert started == [sequence.id for sequence in sequences]
    assert all(sequence.state is SequenceState.FINISHED for sequence in sequences)
