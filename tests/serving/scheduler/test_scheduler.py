"""A sequence's life in the scheduler, whatever the policy."""

import subprocess
import sys

import pytest

from muxjax.serving.pool import Pool
from muxjax.serving.scheduler.errors import NeverFitsError, QueueFullError
from muxjax.serving.scheduler.job import Chunk, Job, JobKind
from muxjax.serving.scheduler.policies import POLICY_NAMES, make_policy
from muxjax.serving.scheduler.scheduler import Scheduler
from muxjax.serving.scheduler.sequence import Sequence, SequenceState
from muxjax.serving.scheduler.share import LLMShare
from tests.serving.scheduler.units import PAGE, SmallUnit, chunks, names

PREFILL, DECODE = JobKind.PREFILL, JobKind.DECODE


@pytest.fixture(params=POLICY_NAMES)
def policy(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def one_llm(policy: str, num_blocks: int = 64, context: int = 256, **limits: float) -> SmallUnit:
    """A unit with the LLM "a" alone."""
    share = {name: limits.pop(name) for name in ("max_sequences", "max_waiting") if name in limits}
    return SmallUnit(policy, num_blocks, {"a": LLMShare(1.0, context, **share)}, **limits)  # type: ignore[arg-type]


def test_a_sequence_prefills_then_decodes_a_token_a_step_until_it_is_complete(policy: str) -> None:
    unit = one_llm(policy)
    sequence = unit.add("a", prompt=10, output=3)
    steps = [unit.step() for _ in range(4)]
    assert [names(step) for step in steps] == [["prefill a"], ["decode a"], ["decode a"], []]
    assert [step.jobs[0].chunks for step in steps if step] == [
        (Chunk(sequence, 0, 10, True),),
        (Chunk(sequence, 10, 1, True),),
        (Chunk(sequence, 11, 1, True),),
    ]
    assert sequence.state is SequenceState.FINISHED
    assert (sequence.num_tokens, sequence.num_computed, sequence.unread) == (13, 12, 0)
    assert not unit.scheduler.has_unfinished
    assert unit.pool.free_blocks == unit.pool.capacity


def test_nothing_to_do_is_no_step(policy: str) -> None:
    assert one_llm(policy).scheduler.schedule(0.0) is None


def test_a_long_prompt_is_prefilled_in_chunks_of_which_the_last_samples(policy: str) -> None:
    unit = one_llm(policy, max_prefill_tokens=40)
    sequence = unit.add("a", prompt=100)
    jobs = [unit.step().jobs[0] for _ in range(4)]  # type: ignore[union-attr]
    assert [job.chunks for job in jobs] == [
        (Chunk(sequence, 0, 40, False),),
        (Chunk(sequence, 40, 40, False),),
        (Chunk(sequence, 80, 20, True),),
        (Chunk(sequence, 100, 1, True),),
    ]


def test_one_prefill_job_takes_several_prompts_up_to_its_tokens(policy: str) -> None:
    unit = one_llm(policy, max_prefill_tokens=50)
    for _ in range(4):
        unit.add("a", prompt=20)
    assert chunks(unit.step(), PREFILL) == [(1, 0, 20), (2, 0, 20), (3, 0, 10)]
    assert chunks(unit.step(), PREFILL) == [(3, 10, 10), (4, 0, 20)]


def test_one_prefill_job_takes_no_more_sequences_than_allowed(policy: str) -> None:
    unit = one_llm(policy, max_prefill_sequences=2)
    for _ in range(3):
        unit.add("a", prompt=5)
    assert chunks(unit.step(), PREFILL) == [(1, 0, 5), (2, 0, 5)]
    assert chunks(unit.step(), PREFILL) == [(3, 0, 5)]


def test_an_llm_prefills_and_decodes_in_one_step(policy: str) -> None:
    unit = one_llm(policy)
    unit.add("a", prompt=5)
    unit.step()
    unit.add("a", prompt=5)
    step = unit.step()
    assert chunks(step, PREFILL) == [(2, 0, 5)]
    assert chunks(step, DECODE) == [(1, 5, 1)]


def test_sequences_wait_for_slots_and_reuse_them(policy: str) -> None:
    unit = one_llm(policy, max_sequences=2)
    first, second, third = (unit.add("a", prompt=5, output=output) for output in (2, 9, 9))
    unit.step()
    assert (first.slot, second.slot, third.slot) == (0, 1, None)
    assert names(unit.step()) == ["decode a"]
    assert first.state is SequenceState.FINISHED
    unit.step()
    assert (first.slot, second.slot, third.slot) == (None, 1, 0)


def test_pages_cover_the_tokens_that_a_job_writes(policy: str) -> None:
    unit = one_llm(policy)
    sequence = unit.add("a", prompt=2 * PAGE - 1)
    for num_pages in (2, 2, 3):  # the prompt; the second page's last token; the third page's first
        unit.step()
        assert len(unit.pool.page_table("a", sequence.id)) == num_pages
        assert sequence.num_computed <= num_pages * PAGE == sequence.capacity


def test_decoding_goes_on_while_tokens_are_unread(policy: str) -> None:
    unit = one_llm(policy)
    sequence = unit.add("a", prompt=5)
    for unread in (1, 2, 3):
        for job in unit.start():
            unit.scheduler.job_finished(job, unit.now)
        assert sequence.unread == unread
    assert sequence.num_tokens == 8


def test_a_sequence_decodes_only_when_its_prefill_has_finished(policy: str) -> None:
    unit = one_llm(policy)
    unit.add("a", prompt=5)
    (prefill,) = unit.start()
    assert unit.start() == []
    unit.end(prefill)
    assert names(unit.start()) == ["decode a"]


def test_an_llm_has_one_decode_in_flight(policy: str) -> None:
    unit = one_llm(policy)
    unit.add("a", prompt=5)
    unit.step()
    (decode,) = unit.start()
    assert unit.start() == []
    unit.end(decode)
    assert names(unit.start()) == ["decode a"]


def test_a_complete_sequence_keeps_its_pages_until_it_is_finished(policy: str) -> None:
    unit = one_llm(policy)
    sequence = unit.add("a", prompt=5, output=1)
    (job,) = unit.start()
    unit.scheduler.job_finished(job, unit.now)
    assert unit.start() == []
    assert sequence.is_complete
    assert unit.pool.used("a") == 1
    unit.scheduler.finish(sequence, unit.now)
    assert unit.pool.used("a") == 0


def test_a_full_queue_refuses_with_a_hint_and_takes_nothing(policy: str) -> None:
    unit = one_llm(policy, max_waiting=2, max_sequences=1)
    unit.add("a", prompt=5)
    unit.step()
    unit.add("a", prompt=5)
    pair = [Sequence(10 + index, "a", 5, 9, unit.now) for index in range(2)]
    with pytest.raises(QueueFullError, match=r"queue of LLM 'a' is full \(2 sequences wait\)") as error:
        unit.scheduler.add_all(pair, unit.now)
    assert 1 <= error.value.retry_after <= 60
    assert len(unit.scheduler.queues["a"].waiting) == 1
    unit.scheduler.add(pair[0], unit.now)


def test_the_hint_to_retry_follows_the_pace_of_admissions(policy: str) -> None:
    unit = one_llm(policy, max_waiting=8, max_sequences=1)

    def hint_after(seconds_per_sequence: float) -> float:
        for _ in range(40):
            while len(unit.scheduler.queues["a"].waiting) < 8:
                unit.add("a", prompt=5, output=1)
            unit.step()
            unit.now += seconds_per_sequence - 1
        return unit.scheduler.queues["a"].retry_after

    assert hint_after(seconds_per_sequence=3.0) > hint_after(seconds_per_sequence=1.0) > 1.0


@pytest.mark.parametrize(
    ("sequence", "error", "words"),
    [
        (Sequence(2, "b", 5, 9, 0.0), KeyError, "b"),
        (Sequence(1, "a", 5, 9, 0.0), ValueError, "id 1 is in the scheduler already"),
        (Sequence(2, "a", 9, 9, 0.0), ValueError, "prompt_length 9 must be at least 1 and below max_length 9"),
        (Sequence(2, "a", 0, 9, 0.0), ValueError, "prompt_length 0 must be at least 1"),
        (Sequence(2, "a", 5, 257, 0.0), NeverFitsError, "may reach 257 tokens, but LLM 'a' is served with .* 256"),
        (Sequence(2, "a", 5, 4 * PAGE + 2, 0.0), NeverFitsError, "may need 5 head blocks, but the pool has 4"),
    ],
)
def test_what_can_never_run_is_refused(sequence: Sequence, error: type[Exception], words: str) -> None:
    unit = one_llm("adbs", num_blocks=4)
    unit.add("a", prompt=5, output=4)
    with pytest.raises(error, match=words):
        unit.scheduler.add(sequence, 0.0)
    assert len(unit.scheduler.queues["a"].waiting) == 1


def test_a_sequence_as_long_as_the_pool_runs_to_its_end(policy: str) -> None:
    unit = one_llm(policy, num_blocks=4)
    sequence = unit.add("a", prompt=5, output=4 * PAGE + 1 - 5)
    unit.run(4 * PAGE)
    assert sequence.num_tokens == 4 * PAGE + 1
    assert sequence.state is SequenceState.FINISHED


def test_the_oldest_prompts_of_an_llm_start_first(policy: str) -> None:
    unit = one_llm(policy, max_prefill_sequences=1)
    for _ in range(3):
        unit.add("a", prompt=5)
    assert [chunks(unit.step(), PREFILL)[0][0] for _ in range(3)] == [1, 2, 3]


# Ends, in every state


def test_abort_of_a_waiting_sequence(policy: str) -> None:
    unit = one_llm(policy)
    sequence = unit.add("a", prompt=5)
    assert unit.scheduler.abort(sequence.id, unit.now) is sequence
    assert sequence.state is SequenceState.FINISHED
    assert unit.step() is None


def test_abort_half_way_through_the_prompt(policy: str) -> None:
    unit = one_llm(policy, max_prefill_tokens=20)
    sequence = unit.add("a", prompt=50)
    unit.step()
    unit.scheduler.abort(sequence.id, unit.now)
    assert unit.step() is None
    assert unit.pool.free_blocks == unit.pool.capacity


@pytest.mark.parametrize("earlier_steps", [0, 1])
def test_abort_while_a_job_is_in_flight(policy: str, earlier_steps: int) -> None:
    unit = one_llm(policy)
    sequence, other = unit.add("a", prompt=5), unit.add("a", prompt=5)
    unit.run(earlier_steps)
    (job,) = unit.start()
    unit.scheduler.abort(sequence.id, unit.now)
    unit.end(job)
    assert sequence.slot is None
    assert chunks(unit.step(), DECODE) == [(other.id, 5 + earlier_steps, 1)]
    assert unit.pool.used("a") == 1


def test_abort_of_a_decoding_sequence_frees_its_slot_and_pages(policy: str) -> None:
    unit = one_llm(policy, max_sequences=1)
    first, second = unit.add("a", prompt=5), unit.add("a", prompt=5)
    unit.run(3)
    unit.scheduler.abort(first.id, unit.now)
    unit.step()
    assert second.slot == 0
    assert unit.pool.used("a") == 1


def test_abort_of_a_complete_sequence(policy: str) -> None:
    unit = one_llm(policy)
    sequence = unit.add("a", prompt=5, output=1)
    (job,) = unit.start()
    unit.scheduler.job_finished(job, unit.now)
    unit.scheduler.abort(sequence.id, unit.now)
    assert unit.pool.used("a") == 0
    assert not unit.scheduler.has_unfinished


def test_abort_of_a_preempted_sequence(policy: str) -> None:
    unit = one_llm(policy, num_blocks=4, context=4 * PAGE)
    unit.add("a", prompt=2 * PAGE)
    second = unit.add("a", prompt=PAGE)
    unit.run(2)
    assert second.preemptions == 1
    unit.scheduler.abort(second.id, unit.now)
    unit.run(5)
    assert second.state is SequenceState.FINISHED
    assert unit.scheduler.queues["a"].waiting == []


def test_abort_of_an_unknown_sequence_is_ignored(policy: str) -> None:
    assert one_llm(policy).scheduler.abort(5, 0.0) is None


def test_finish_of_an_ended_sequence_is_an_error(policy: str) -> None:
    unit = one_llm(policy)
    sequence = unit.add("a", prompt=5)
    unit.scheduler.finish(sequence, 0.0)
    with pytest.raises(ValueError, match="sequence 1 is not in the scheduler"):
        unit.scheduler.finish(sequence, 0.0)
    again = Sequence(1, "a", 5, 9, 0.0)
    unit.scheduler.add(again, 0.0)
    with pytest.raises(ValueError, match="sequence 1 is not in the scheduler"):
        unit.scheduler.finish(sequence, 0.0)
    assert unit.scheduler.abort(1, 0.0) is again


def test_a_job_finishes_once(policy: str) -> None:
    unit = one_llm(policy)
    unit.add("a", prompt=5)
    (job,) = unit.start()
    unit.scheduler.job_finished(job, 0.0)
    with pytest.raises(ValueError, match="no such prefill job of LLM 'a' is in flight"):
        unit.scheduler.job_finished(job, 0.0)
    with pytest.raises(ValueError, match="no such decode job"):
        unit.scheduler.job_finished(Job("a", DECODE, ()), 0.0)


def test_deadlines_end_sequences_in_every_state(policy: str) -> None:
    unit = one_llm(policy, max_sequences=2, max_prefill_tokens=20)
    decoding = unit.add("a", prompt=5, deadline=10.0)
    prefilling = unit.add("a", prompt=100, deadline=20.0)
    waiting = unit.add("a", prompt=5, deadline=5.0)
    endless = unit.add("a", prompt=5)
    unit.step()
    assert unit.scheduler.next_deadline == 5.0
    assert unit.scheduler.expire(4.9) == []
    assert unit.scheduler.expire(5.0) == [waiting]
    assert unit.scheduler.expire(30.0) == [decoding, prefilling]
    assert unit.scheduler.next_deadline is None
    assert unit.pool.used("a") == 0
    assert chunks(unit.step(), PREFILL) == [(endless.id, 0, 5)]


def test_a_deadline_after_the_end_does_nothing(policy: str) -> None:
    unit = one_llm(policy)
    unit.add("a", prompt=5, output=1, deadline=10.0)
    unit.step()
    assert unit.scheduler.expire(10.0) == []


# What the device lost


def test_what_was_lost_is_computed_again_from_the_prompt_and_the_tokens_that_were_read(policy: str) -> None:
    unit = one_llm(policy)
    sequence = unit.add("a", prompt=10, output=5)
    unit.step()
    unit.step()
    (unread,) = unit.start()
    unit.scheduler.job_finished(unread, unit.now)
    assert (sequence.num_tokens, sequence.unread) == (13, 1)
    unit.scheduler.restart(["a"], unit.now)
    assert (sequence.state, sequence.num_tokens, sequence.unread) == (SequenceState.WAITING, 12, 0)
    assert unit.pool.free_blocks == unit.pool.capacity
    assert chunks(unit.step(), PREFILL) == [(sequence.id, 0, 12)]
    unit.run(3)
    assert sequence.state is SequenceState.FINISHED


def test_other_llms_keep_what_they_have(policy: str) -> None:
    unit = SmallUnit(policy, 64, {"a": LLMShare(1.0, 256), "b": LLMShare(1.0, 256)})
    kept, lost = unit.add("a", prompt=10), unit.add("b", prompt=10)
    unit.run(3)
    unit.scheduler.restart(["b"], unit.now)
    assert (kept.state, lost.state) == (SequenceState.RUNNING, SequenceState.WAITING)
    assert unit.pool.used("b") == 0 < unit.pool.used("a")


def test_jobs_in_flight_cannot_be_lost(policy: str) -> None:
    unit = one_llm(policy)
    unit.add("a", prompt=10)
    unit.start()
    with pytest.raises(ValueError, match="jobs of LLM 'a' are in flight"):
        unit.scheduler.restart(["a"], unit.now)


# Construction


def test_limits_are_checked() -> None:
    pool = Pool(10)
    pool.add_llm("a", 1, 1, 64)
    with pytest.raises(ValueError, match="'b' is not in the pool"):
        Scheduler(pool, {"b": LLMShare(1.0, 64)}, make_policy("adbs"))
    with pytest.raises(ValueError, match="must be at least 1, not 0 and 32"):
        Scheduler(pool, {"a": LLMShare(1.0, 64)}, make_policy("adbs"), max_prefill_tokens=0)
    with pytest.raises(ValueError, match="'a': a job takes more than all the compute of the unit"):
        Scheduler(pool, {"a": LLMShare(1.0, 64, prefill_compute=1.2)}, make_policy("adbs"))
    with pytest.raises(ValueError, match="unknown policy 'lifo'; choose one of adbs, fcfs, round_robin"):
        make_policy("lifo")


@pytest.mark.parametrize(
    ("field", "value"),
    [("rate", 0.0), ("rate", float("nan")), ("max_context", 0), ("max_sequences", 0), ("decode_compute", -0.1)],
)
def test_shares_are_checked(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        LLMShare(**({"rate": 1.0, "max_context": 64} | {field: value}))  # type: ignore[arg-type]


def test_the_scheduler_does_not_import_jax() -> None:
    modules = "muxjax.serving.scheduler.scheduler, muxjax.serving.scheduler.policies"
    code = f"import sys, {modules}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
