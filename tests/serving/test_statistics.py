"""What an LLM's figures say of the recent past, and that they stay small."""

import sys

import pytest

from muxjax.serving.request import FinishReason
from muxjax.serving.scheduler.job import JobKind
from muxjax.serving.spec import SLO
from muxjax.serving.statistics import (
    LATENCY_SECONDS,
    RATE_SECONDS,
    LLMStatistics,
    Percentiles,
    RecentSamples,
    RecentSum,
    Timing,
)


def test_percentiles_are_nearest_ranks() -> None:
    assert Percentiles.of([]) is None
    assert Percentiles.of([3.0]) == Percentiles(3.0, 3.0, 3.0)
    assert Percentiles.of([float(value) for value in range(100, 0, -1)]) == Percentiles(50.0, 90.0, 99.0)


def test_a_recent_sum_forgets_by_the_second() -> None:
    recent = RecentSum()
    recent.add(5, now=100.2)
    recent.add(2, now=100.9)
    recent.add(1, now=103.0)
    assert recent.total(103.5) == 8
    assert recent.total(100.0 + RATE_SECONDS) == 1
    assert recent.total(1e6) == 0


def test_a_rate_covers_only_the_time_there_was() -> None:
    recent = RecentSum()
    recent.add(30, now=50.5)
    assert recent.rate(52.0, since=50.0) == pytest.approx(15)
    assert recent.rate(50.0 + RATE_SECONDS - 0.5, since=0.0) == pytest.approx(30 / (RATE_SECONDS - 0.5))
    assert recent.rate(50.0, since=50.0) == 0


def test_samples_are_bounded_in_time_and_number() -> None:
    samples = RecentSamples()
    for index in range(100_000):
        samples.add(index, now=0.0)
    assert len(samples.values(now=1.0)) < 10_000
    assert samples.values(now=1.0)[-1] == 99_999
    samples.add(1.0, now=LATENCY_SECONDS + 1)
    assert samples.values(now=LATENCY_SECONDS + 1) == [1.0]


def finished(arrival: float, first: float, last: float) -> Timing:
    return Timing(arrival, started=arrival, first_token=first, last_token=last)


@pytest.mark.parametrize(
    ("slo", "is_met"),
    [
        (SLO(ttft=0.5), True),
        (SLO(ttft=0.4), False),
        (SLO(tpot=0.1), True),
        (SLO(tpot=0.09), False),
        (SLO(ttft=0.5, tpot=0.1), True),
        (SLO(ttft=0.5, tpot=0.01), False),
    ],
)
def test_a_completion_meets_both_of_its_objectives_or_misses(slo: SLO, is_met: bool) -> None:
    # 0.5 s to the first of 11 tokens, a second for the other ten.
    assert finished(1.0, 1.5, 2.5).meets(slo, 11) is is_met


def test_attainment_counts_what_the_unit_could_not_finish_and_not_who_left() -> None:
    statistics = LLMStatistics(SLO(ttft=1.0), now=0.0)
    assert statistics.attainment(1.0) is None
    for reason in (FinishReason.STOP, FinishReason.LENGTH, FinishReason.ERROR, FinishReason.DEADLINE):
        statistics.completion_ended(reason, finished(0.0, 0.5, 1.0), 5, now=1.0)
    statistics.completion_ended(FinishReason.ABORT, Timing(0.0), 0, now=1.0)
    assert statistics.attainment(1.0) == 0.5
    assert statistics.ended[FinishReason.ERROR] == statistics.ended[FinishReason.ABORT] == 1
    assert LLMStatistics(None, now=0.0).attainment(1.0) is None


def test_a_single_token_has_no_time_per_token_and_meets_any() -> None:
    statistics = LLMStatistics(SLO(tpot=1e-9), now=0.0)
    statistics.completion_ended(FinishReason.LENGTH, finished(0.0, 0.5, 0.5), 1, now=1.0)
    assert statistics.tpot.values(1.0) == []
    assert statistics.attainment(1.0) == 1.0


def test_figures_of_a_busy_llm_stay_small() -> None:
    statistics = LLMStatistics(SLO(ttft=1.0), now=0.0)
    for index in range(20_000):
        now = index * 0.001
        timing = Timing(now)
        statistics.token_read(timing, now)
        statistics.job_read(JobKind.DECODE, 1, 0.001, now)
        statistics.completion_ended(FinishReason.STOP, timing, 1, now)
    kept = [sys.getsizeof(sample) for recent in (statistics.ttft, statistics.met) for sample in recent.values(20.0)]
    assert sum(kept) < 1 << 20
    assert statistics.tokens_per_second(20.0) == pytest.approx(1000, rel=0.15)
