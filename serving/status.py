"""A unit's figures at one moment, out of the parts that know them."""

import time
from collections.abc import Iterable, Mapping

from muxjax.serving.progress import Progress
from muxjax.serving.request import FinishReason
from muxjax.serving.scheduler.job import JobKind
from muxjax.serving.scheduler.scheduler import Scheduler
from muxjax.serving.statistics import LLMStatistics, Percentiles
from muxjax.serving.unit import LLMStatus, UnitStatus


def unit_status(
    llms: Iterable[Progress],
    scheduler: Scheduler,
    statistics: Mapping[str, LLMStatistics],
    steps: int,
    started: float,
) -> UnitStatus:
    """The state now of a unit that has taken so many steps since `started`."""
    now = time.monotonic()
    job_seconds = [recent for llm in statistics.values() for recent in llm.job_seconds.values()]
    total = sum(recent.total(now) for recent in job_seconds)
    return UnitStatus(
        llms=tuple(_llm_status(progress, scheduler, statistics[progress.llm], now, total) for progress in llms),
        blocks_total=scheduler.pool.capacity,
        blocks_free=scheduler.pool.free_blocks,
        steps=steps,
        fairness_gap=scheduler.fairness_gap(),
        busy=sum(recent.rate(now, started) for recent in job_seconds),
    )


def _llm_status(
    progress: Progress, scheduler: Scheduler, statistics: LLMStatistics, now: float, job_seconds: float
) -> LLMStatus:
    """`job_seconds` are those of all LLMs' recent jobs."""
    name, pool = progress.llm, scheduler.pool
    queue = scheduler.queues.get(name)  # None: it failed to load, and has no part in anything
    prefill, decode = (
        statistics.job_seconds[kind].total(now) / job_seconds if job_seconds else 0.0 for kind in JobKind
    )
    return LLMStatus(
        name=name,
        state=progress.state.value,
        waiting=len(queue.waiting) if queue else 0,
        running=queue.num_running if queue else 0,
        blocks_used=pool.used(name) if queue else 0,
        blocks_quota=pool.quota(name) if queue else 0,
        preemptions=queue.preemptions if queue else 0,
        prompt_tokens=statistics.prompt_tokens,
        generated_tokens=statistics.generated_tokens,
        error=progress.error,
        blocks_entitled=scheduler.initial_quotas.get(name, 0),
        errors=statistics.ended[FinishReason.ERROR],
        prefill_share=prefill,
        decode_share=decode,
        tokens_per_second=statistics.tokens_per_second(now),
        ttft=Percentiles.of(statistics.ttft.values(now)),
        tpot=Percentiles.of(statistics.tpot.values(now)),
        slo=statistics.slo,
        slo_attainment=statistics.attainment(now),
        ended=dict(statistics.ended),
        latencies=statistics.latencies(),
        programs_compiled=progress.done,
        programs_needed=progress.total,
    )
