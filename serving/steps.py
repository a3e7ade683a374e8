"""Steps on their way through the device, and what is done when a job fails there."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from muxjax.serving.executor.jax_executor import JaxExecutor, RunningJob, SampledToken
from muxjax.serving.live import LiveCompletions
from muxjax.serving.request import FinishReason
from muxjax.serving.sampling import NOT_FINITE
from muxjax.serving.scheduler.job import Job, Step
from muxjax.serving.scheduler.scheduler import Scheduler
from muxjax.serving.statistics import LLMStatistics
from muxjax.serving.trace import TraceWriter

MAX_FAILURES = 3
"""Failed jobs of an LLM, without a good one between them, after which it is given up."""

_IN_FLIGHT = 2  # the next step is dispatched before the tokens of the last one are read

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _RunningStep:
    """A step that the device has.

    Attributes:
        jobs: those not read yet, in the order in which the device runs them.
        dispatched: when the device had them.
    """

    jobs: deque[RunningJob]
    dispatched: float


class Steps:
    """Runs steps, reads their tokens and books them. It belongs to the engine's thread.

    A job that fails ends the completions that were in it. What else the device lost, of its LLM or, if the pool was in
    the failed job, of all LLMs, is computed again. An LLM whose jobs keep failing is given up.

    Attributes:
        count: steps so far.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        executor: JaxExecutor,
        live: LiveCompletions,
        statistics: Mapping[str, LLMStatistics],
        lock: threading.Lock,
        trace: TraceWriter | None,
        give_up: Callable[[str, str], None],
    ) -> None:
        """`lock` guards all but the device; `give_up` is called with it held, with an LLM and what is wrong with it."""
        self._scheduler = scheduler
        self._executor = executor
        self._live = live
        self._statistics = statistics
        self._lock = lock
        self._trace = trace
        self._give_up = give_up
        self._running: deque[_RunningStep] = deque()
        self._device_free_at = 0.0
        self._failures: dict[str, int] = {}
        self.count = 0

    @property
    def in_flight(self) -> bool:
        """Whether any step's tokens are still to be read."""
        return bool(self._running)

    def runs(self, llm: str) -> bool:
        """Whether any of an LLM's jobs is still to be read."""
        return any(running.job.llm == llm for step in self._running for running in step.jobs)

    @property
    def must_read(self) -> bool:
        """Whether as many steps are in flight as may be."""
        return len(self._running) >= _IN_FLIGHT

    def start(self, step: Step) -> None:
        """Give a step to the device."""
        jobs: deque[RunningJob] = deque()
        failure: Exception | None = None
        for job in step.jobs:
            try:
                jobs.append(self._executor.dispatch(job, self._live.completions))
            except Exception as error:
                failure = error
                break
        now = time.monotonic()
        with self._lock:
            # The device runs steps in order: for the scheduler a job is over once the device has it.
            for job in step.jobs:
                self._scheduler.job_finished(job, now)
        self.count += 1
        self._running.append(_RunningStep(jobs, now))
        if failure is not None:
            failed, *rest = step.jobs[len(jobs) :]
            self._recover(failed, failure, not_started=rest)

    def read(self) -> None:
        """Wait for the oldest step's tokens and book them."""
        step = self._running[0]
        free_at = max(self._device_free_at, step.dispatched)
        while step.jobs:
            running = step.jobs.popleft()
            try:
                tokens = running.read(self._live.completions)
            except Exception as error:
                self._recover(running.job, error)
                continue
            now = time.monotonic()
            with self._lock:
                self._book(running.job, tokens, now - free_at, now)
            if self._trace is not None:
                self._trace.job(running.job, free_at, now)
            free_at = now
        self._device_free_at = free_at
        self._running.popleft()
        if self._trace is not None:
            pool = self._scheduler.pool
            self._trace.blocks({llm: pool.used(llm) for llm in pool.llms}, free_at)

    def abandon(self) -> None:
        """Forget what runs; every completion has ended."""
        self._running.clear()
        self._executor.reset_all()

    def _book(self, job: Job, tokens: Sequence[SampledToken], seconds: float, now: float) -> None:
        self._statistics[job.llm].job_read(job.kind, len(tokens), seconds, now)
        self._scheduler.tokens_read(job)
        # Those of completions that ended meanwhile are dropped.
        wanted = [token for token in tokens if token.chunk.sequence.id in self._live.completions]
        for token in wanted:
            self._live.book(token, now)
        if any(token.token_id != NOT_FINITE for token in wanted):
            self._failures.pop(job.llm, None)
        elif wanted:
            self._count_failure(job.llm, "its scores are not finite numbers")

    def _recover(self, job: Job, error: Exception, not_started: Sequence[Job] = ()) -> None:
        """After a job failed: end its completions, and let what else was lost be computed again."""
        _log.error("a %s of %s failed", job.kind.value, job.llm, exc_info=error)
        lost = {*self._executor.reset(job.llm), *(other.llm for other in not_started)}
        self._drop(lost)
        now = time.monotonic()
        with self._lock:
            in_job = [chunk.sequence.id for chunk in job.chunks if chunk.sequence.id in self._live.completions]
            self._live.end(in_job, FinishReason.ERROR, now, f"{type(error).__name__} in the engine")
            self._scheduler.restart(lost, now)
            self._count_failure(job.llm, f"{type(error).__name__} in the engine")

    def _drop(self, llms: Collection[str]) -> None:
        """Read nothing of these LLMs' jobs in flight."""
        for step in self._running:
            kept = [running for running in step.jobs if running.job.llm not in llms]
            step.jobs.clear()
            step.jobs.extend(kept)

    def _count_failure(self, llm: str, reason: str) -> None:
        self._failures[llm] = self._failures.get(llm, 0) + 1
        if self._failures[llm] >= MAX_FAILURES:
            del self._failures[llm]
            self._give_up(llm, reason)
