"""Host time of one `Scheduler.schedule()`, as JSON: `python benchmarks/schedule.py`.

The design's budget is 1 ms with 8 LLMs and 256 running sequences. Each sequence that ends is replaced, so a step is a
decode batch of every LLM and, whenever some wait, a prefill. Times are CPU time, which other processes do not disturb.
"""

import argparse
import json
import random
import time

import numpy as np

from muxjax.serving.pool import Pool
from muxjax.serving.scheduler.policies import POLICY_NAMES, make_policy
from muxjax.serving.scheduler.scheduler import Scheduler
from muxjax.serving.scheduler.sequence import Sequence
from muxjax.serving.scheduler.share import LLMShare


def make_scheduler(policy: str, num_llms: int, slots: int) -> Scheduler:
    """LLMs of 12 layers, 4 KV heads and mixed head sizes, with room for all their sequences."""
    pool = Pool(num_llms * slots * 12 * 4 * 40)
    shares = {}
    for index in range(num_llms):
        pool.add_llm(f"llm-{index}", layers=12, kv_heads=4, head_dim=(64, 128, 80, 256)[index % 4])
        shares[f"llm-{index}"] = LLMShare(rate=1.0, max_context=1024, max_sequences=slots)
    return Scheduler(pool, shares, make_policy(policy), max_prefill_tokens=512)


def measure(policy: str, num_llms: int, num_sequences: int, steps: int, lockstep: bool) -> dict[str, object]:
    """Milliseconds of `schedule()` alone, and with what follows it for each job, after as many steps to fill the slots.

    In lockstep, all prompts have one length, so that all sequences need their next pages at the same step.
    """
    slots = num_sequences // num_llms
    scheduler, draw = make_scheduler(policy, num_llms, slots), random.Random(0)
    schedule_ms, cycle_ms, running = [], [], []
    next_id = 0
    now = 0.0
    for number in range(2 * steps):
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
        if number >= steps:
            schedule_ms.append((scheduled - start) * 1e3)
            cycle_ms.append((cycle - start) * 1e3)
            running.append(sum(queue.num_running for queue in scheduler.queues.values()))
    return {
        "policy": policy,
        "llms": num_llms,
        "sequences": num_sequences,
        "lockstep": lockstep,
        "steps": steps,
        "mean_running": round(float(np.mean(running)), 1),
        "schedule_ms": quantiles(schedule_ms),
        "cycle_ms": quantiles(cycle_ms),
    }


def quantiles(milliseconds: list[float]) -> dict[str, float]:
    """Median, 99th percentile and largest."""
    p50, p99, largest = np.percentile(milliseconds, [50, 99, 100])
    return {"p50": round(p50, 3), "p99": round(p99, 3), "max": round(largest, 3)}


def main() -> None:
    """Measure every policy, with scattered and with simultaneous page faults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llms", type=int, default=8)
    parser.add_argument("--sequences", type=int, default=256)
    parser.add_argument("--steps", type=int, default=2000)
    options = parser.parse_args()
    for policy in POLICY_NAMES:
        for lockstep in (False, True):
            print(json.dumps(measure(policy, options.llms, options.sequences, options.steps, lockstep)), flush=True)


if __name__ == "__main__":
    main()
