"""Host time of one `Scheduler.schedule()`.

Each sequence that ends is replaced, so a step is a decode batch of every LLM and, whenever some wait, a prefill.
Times are CPU time, which other processes do not disturb.
"""

import random
import time
from collections.abc import Callable
from typing import Any

from muxjax.bench.result import Budget, Part, percentiles
from muxjax.bench.settings import Settings
from muxjax.serving.pool import Pool
from muxjax.serving.scheduler.policies import POLICY_NAMES, make_policy
from muxjax.serving.scheduler.scheduler import Scheduler
from muxjax.serving.scheduler.sequence import Sequence
from muxjax.serving.scheduler.share import LLMShare

_MOST_MS = 1.0


def measure(settings: Settings, tell: Callable[[str], None]) -> Part:
    """Every policy, with scattered and with simultaneous needs of pages."""
    cases = []
    for policy in POLICY_NAMES:
        tell(f"schedule: {policy}, {settings.schedule_llms} LLMs, {settings.schedule_sequences} sequences")
        cases += [_measure(policy, settings, lockstep=lockstep) for lockstep in (False, True)]
    budgets = (
        Budget(
            f"schedule() ms, {case['policy']}, {'one length' if case['lockstep'] else 'many lengths'}",
            _MOST_MS,
            case["schedule_ms"]["p50"],
            at_least=False,
        )
        for case in cases
    )
    figures = {"llms": settings.schedule_llms, "sequences": settings.schedule_sequences, "cases": cases}
    return Part(figures, tuple(budgets))


def _measure(policy: str, settings: Settings, *, lockstep: bool) -> dict[str, Any]:
    """Milliseconds of `schedule()` alone, and with what follows it for each job, after as many steps to fill the slots.

    In lockstep, all prompts have one length, so that all sequences need their next pages at the same step.
    """
    slots = settings.schedule_sequences // settings.schedule_llms
    scheduler, draw = _make_scheduler(policy, settings.schedule_llms, slots), random.Random(0)
    schedule_seconds, cycle_seconds, running = [], [], []
    next_id, now = 0, 0.0
    for number in range(2 * settings.schedule_steps):
        now += 0.01
        for llm, queue in scheduler.queues.items():
            while queue.num_running + len(queue.waiting) < slots:
                next_id += 1
                prompt = 128 if lockstep else draw.randint(16, 256)
                scheduler.add(Sequence(next_id, llm, prompt, prompt + (512 if lockstep else 256), now), now)
        start = time.process_time()
        step = scheduler.schedule(now)
        scheduled = time.process_time()
        jobs = step.jobs if step else ()
        for job in jobs:
            scheduler.job_finished(job, now)
        for job in jobs:
            scheduler.tokens_read(job)
        cycle = time.process_time()
        for queue in scheduler.queues.values():
            for sequence in list(queue.completing.values()):
                scheduler.finish(sequence, now)
        if number >= settings.schedule_steps:
            schedule_seconds.append(scheduled - start)
            cycle_seconds.append(cycle - start)
            running.append(sum(queue.num_running for queue in scheduler.queues.values()))
    return {
        "policy": policy,
        "lockstep": lockstep,
        "mean_running": sum(running) / len(running),
        "schedule_ms": percentiles(schedule_seconds),
        "cycle_ms": percentiles(cycle_seconds),
    }


def _make_scheduler(policy: str, num_llms: int, slots: int) -> Scheduler:
    """LLMs of 12 layers, 4 KV heads and mixed head sizes, with room for all their sequences."""
    pool = Pool(num_llms * slots * 12 * 4 * 40)
    shares = {}
    for index in range(num_llms):
        pool.add_llm(f"llm-{index}", layers=12, kv_heads=4, head_dim=(64, 128, 80, 256)[index % 4])
        shares[f"llm-{index}"] = LLMShare(rate=1.0, max_context=1024, max_sequences=slots)
    return Scheduler(pool, shares, make_policy(policy), max_prefill_tokens=512)
