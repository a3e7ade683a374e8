"""Prefill chunks as large as the times that LLMs promise let them be."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muxjax.serving.scheduler.job import Chunk, Job, JobKind
from muxjax.serving.scheduler.job_times import JobTimes
from muxjax.serving.scheduler.share import LLMShare
from tests.serving.scheduler.units import PAGE, SmallUnit

MOST = 512
SIZES = (16, 32, 64, 128, 256, MOST)
seconds = st.floats(1e-5, 1.0)


class TimedUnit(SmallUnit):
    """Steps take what their jobs take, one after another: a fixed part, and a part for each token or sequence."""

    def __init__(self, fixed: float, per_token: float, decode: float, **shares: LLMShare) -> None:
        super().__init__("adbs", 4096, shares, max_prefill_tokens=MOST)
        self._fixed, self._per_token, self._decode = fixed, per_token, decode

    def seconds(self, job: Job) -> float:
        if job.kind is JobKind.DECODE:
            return self._decode
        return self._fixed + self._per_token * job.num_tokens

    def timed_step(self) -> tuple[list[Job], float]:
        """The jobs of the next step, and what it took."""
        jobs, began = self.start(), self.now
        for job in jobs:
            self.now += self.seconds(job)
            self.scheduler.jobs_took([job], self.seconds(job))
        self.end(*jobs)
        return jobs, self.now - began


def share(ttft: float | None = None, tpot: float | None = None) -> LLMShare:
    return LLMShare(1.0, 256 * PAGE, max_sequences=64, ttft=ttft, tpot=tpot)


def prefill_of(jobs: list[Job]) -> int:
    return next((job.num_tokens for job in jobs if job.kind is JobKind.PREFILL), 0)


def chunks_beside_decodes(unit: TimedUnit, prompt: int) -> tuple[list[int], list[float]]:
    """Sizes of the chunks of a prompt of `a` while `b` decodes, and how long the steps took with them."""
    unit.add("b", prompt=1)
    for known in (20, 40):
        unit.add("a", prompt=known, output=1)
        for _ in range(4):
            unit.timed_step()
    unit.add("a", prompt=prompt, output=1)
    sizes, times = [], []
    while sum(sizes) < prompt:
        jobs, took = unit.timed_step()
        sizes.append(prefill_of(jobs))
        times.append(took)
    return sizes, times


@settings(deadline=None)
@given(fixed=seconds, per_token=st.floats(1e-6, 1e-2), decode=seconds, tpot=st.floats(1e-4, 10.0))
def test_steps_with_a_chunk_are_as_short_as_promised_or_have_the_least_chunk(fixed, per_token, decode, tpot) -> None:
    unit = TimedUnit(fixed, per_token, decode, a=share(), b=share(tpot=tpot))
    sizes, times = chunks_beside_decodes(unit, 2000)
    assert all(size in SIZES for size in sizes[:-1])
    for size, took in zip(sizes, times, strict=True):
        assert took <= tpot * (1 + 1e-6) or size <= SIZES[0]
    allowed = max((size for size in SIZES if fixed + per_token * size + decode <= tpot * (1 - 1e-6)), default=SIZES[0])
    assert sizes[-2] >= allowed, "a larger chunk would have been as short"


def test_nothing_promised_means_the_largest_chunks() -> None:
    sizes, _ = chunks_beside_decodes(TimedUnit(0.01, 0.001, 0.01, a=share(), b=share()), 1024)
    assert sizes == [MOST, MOST]


def test_without_decodes_beside_it_a_prefill_has_the_largest_chunks() -> None:
    unit = TimedUnit(0.01, 0.001, 0.01, a=share(tpot=0.02), b=share(tpot=0.02))
    unit.add("a", prompt=20, output=1)
    unit.timed_step()
    unit.add("a", prompt=1024)
    assert [prefill_of(unit.timed_step()[0]) for _ in range(2)] == [MOST, MOST]


def test_the_strictest_promise_of_those_that_decode_counts() -> None:
    unit = TimedUnit(0.0, 0.001, 0.001, a=share(tpot=0.3), b=share(tpot=0.07))
    sizes, _ = chunks_beside_decodes(unit, 1024)
    assert sizes[0] == 64


@pytest.mark.parametrize(
    ("ttft", "size"),
    [
        (1.19, 64),  # 16 chunks of 64 take 16 x 74 ms
        (1.15, 128),  # 8 chunks of 128 take 8 x 138 ms
        (1.08, 256),  # 4 x 266 ms
        (0.3, 64),  # too late whatever the chunk: the decodes need not suffer for it
    ],
)
def test_a_prompt_that_would_come_too_late_gets_what_it_needs(ttft, size) -> None:
    unit = TimedUnit(0.0, 0.001, 0.010, a=share(ttft=ttft), b=share(tpot=0.08))
    sizes, _ = chunks_beside_decodes(unit, 1024)
    assert sizes[0] == size


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 512), st.floats(1e-5, 1.0)), min_size=1, max_size=40))
def test_estimates_are_positive_and_grow_with_the_work(jobs) -> None:
    times = JobTimes()
    for size, took in jobs:
        times.learn([Job("a", JobKind.PREFILL, (Chunk(None, 0, size, False),))], took)
    estimates = [times.seconds("a", JobKind.PREFILL, size) for size in SIZES]
    assert all(earlier <= later * (1 + 1e-9) for earlier, later in pairwise(estimates))
    assert estimates[0] >= 0
    assert times.seconds("a", JobKind.DECODE, 1) is None


def test_jobs_that_end_together_share_their_time_as_they_would_alone() -> None:
    times = JobTimes()
    prefill = Job("a", JobKind.PREFILL, (Chunk(None, 0, 64, False),))
    decode = Job("b", JobKind.DECODE, (Chunk(None, 5, 1, True),))
    assert times.learn([prefill, decode], 0.4) == [0.2, 0.2]
    times.forget("a")
    times.forget("b")
    times.learn([prefill], 0.3)
    times.learn([decode], 0.1)
    assert times.learn([prefill, decode], 0.2) == pytest.approx([0.15, 0.05])


def test_what_was_slow_is_forgotten() -> None:
    times = JobTimes()
    decode = Job("b", JobKind.DECODE, (Chunk(None, 5, 1, True),))
    for took in [10.0] * 5 + [1.0] * 100:
        times.learn([decode], took)
    assert times.seconds("b", JobKind.DECODE, 1) == pytest.approx(1.0, rel=0.05)
