"""What runs at once while the device has too little memory."""

from muxjax.serving.scheduler.job import MIN_CHUNK_TOKENS, JobKind
from muxjax.serving.scheduler.share import LLMShare
from tests.serving.scheduler.units import PAGE, SmallUnit


def fail(unit: SmallUnit) -> list[bool]:
    """The next step's jobs do not fit; returns which of them can be smaller."""
    jobs = unit.start()
    for job in jobs:
        unit.scheduler.job_finished(job, unit.now)
    smaller = [unit.scheduler.back_off(job) for job in jobs]
    unit.scheduler.restart(unit.scheduler.queues, unit.now)
    return smaller


def sizes(unit: SmallUnit, kind: JobKind) -> list[int]:
    """Rows of the jobs of that kind in the next steps."""
    steps = [unit.step() for _ in range(6)]
    return [job.num_tokens for step in steps if step for job in step.jobs if job.kind is kind]


def unit(output: int) -> SmallUnit:
    small = SmallUnit("adbs", 256, {"a": LLMShare(1.0, 64 * PAGE, max_sequences=8)}, max_prefill_tokens=128)
    for _ in range(8):
        small.add("a", prompt=8, output=output)
    return small


def test_half_as_many_sequences_run_and_one_more_for_each_that_completes() -> None:
    small = unit(output=6)
    small.step()
    assert fail(small) == [True]
    assert max(sizes(small, JobKind.DECODE)) == 4
    small.run(30)
    for _ in range(8):
        small.add("a", prompt=8, output=20)
    assert max(sizes(small, JobKind.DECODE)) == 8


def test_chunks_are_half_as_large() -> None:
    small = unit(output=1000)
    assert fail(small) == [True]
    assert sizes(small, JobKind.PREFILL) == [32, 32]


def test_the_smallest_jobs_cannot_be_smaller() -> None:
    small = SmallUnit("adbs", 64, {"a": LLMShare(1.0, 16 * PAGE)})
    small.add("a", prompt=MIN_CHUNK_TOKENS)
    assert fail(small) == [False]
    small.step()
    assert fail(small) == [False]
