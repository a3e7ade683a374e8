"""Small units to schedule, with the words that tests describe them in."""

from collections.abc import Mapping

from muxjax.serving.pool import Pool
from muxjax.serving.scheduler.job import Job, JobKind, Step
from muxjax.serving.scheduler.policies import make_policy
from muxjax.serving.scheduler.policy import Policy
from muxjax.serving.scheduler.scheduler import Scheduler
from muxjax.serving.scheduler.sequence import Sequence
from muxjax.serving.scheduler.share import LLMShare

PAGE = 16
"""Tokens of a page, which is one head block, of every LLM of a `SmallUnit`."""


class SmallUnit:
    """A scheduler over LLMs of one layer and one head, so that blocks are pages; `now` advances a second a step."""

    def __init__(self, policy: str | Policy, num_blocks: int, shares: Mapping[str, LLMShare], **options: float) -> None:
        self.pool = Pool(num_blocks + 1)
        for llm in shares:
            self.pool.add_llm(llm, layers=1, kv_heads=1, head_dim=4096 // PAGE)
        chosen = make_policy(policy) if isinstance(policy, str) else policy
        self.scheduler = Scheduler(self.pool, shares, chosen, **options)  # type: ignore[arg-type]
        self.now = 0.0
        self.in_flight: list[Job] = []
        self._next_id = 0

    def add(self, llm: str, prompt: int, output: int = 1000, deadline: float | None = None) -> Sequence:
        """A new sequence of so many prompt tokens, and at most so many more as the LLM's context allows."""
        self._next_id += 1
        longest = self.scheduler.queues[llm].share.max_context
        sequence = Sequence(self._next_id, llm, prompt, min(prompt + output, longest), self.now, deadline)
        self.scheduler.add(sequence, self.now)
        return sequence

    def start(self) -> list[Job]:
        """The jobs that start now; they stay in flight."""
        step = self.scheduler.schedule(self.now)
        jobs = list(step.jobs) if step else []
        self.in_flight += jobs
        return jobs

    def end(self, *jobs: Job) -> None:
        """Finish jobs, read their tokens, and finish the sequences that are complete."""
        for job in jobs:
            self.in_flight = [other for other in self.in_flight if other is not job]
            self.scheduler.job_finished(job, self.now)
            self.scheduler.tokens_read(job)
        for queue in self.scheduler.queues.values():
            for sequence in list(queue.completing.values()):
                self.scheduler.finish(sequence, self.now)

    def step(self) -> Step | None:
        """Start jobs and end them at once."""
        self.now += 1
        step = self.scheduler.schedule(self.now)
        self.end(*(step.jobs if step else ()))
        self.pool.check_integrity()
        return step

    def run(self, steps: int) -> list[list[str]]:
        """Take so many steps and return what each ran."""
        return [names(self.step()) for _ in range(steps)]


def names(step: Step | list[Job] | None) -> list[str]:
    """The jobs as "prefill a", "decode b"."""
    jobs = step.jobs if isinstance(step, Step) else step or ()
    return [f"{job.kind.value} {job.llm}" for job in jobs]


def chunks(step: Step | list[Job] | None, kind: JobKind) -> list[tuple[int, int, int]]:
    """(sequence id, start, length) of every chunk of that kind."""
    jobs = step.jobs if isinstance(step, Step) else step or ()
    return [(chunk.sequence.id, chunk.start, chunk.length) for job in jobs if job.kind is kind for chunk in job.chunks]
