"""Steps on their way through the device, and what is done when a job fails there."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from muxjax.serving.executor.jax_executor import JaxExecutor
from muxjax.serving.executor.launch import Launch, PackedError, SampledToken
from muxjax.serving.executor.packed import PackedKey
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
        launches: those not read yet, in the order in which the device runs them.
        dispatched: when the device had them.
    """

    launches: deque[Launch]
    dispatched: float


class Steps:
    """Runs steps, reads their tokens and books them. It belongs to the engine's thread.

    A job that fails ends the completions that were in it. What else the device lost, of its LLM or, if the pool was in
    the failed job, of all LLMs, is computed again. An LLM whose jobs keep failing is given up. A job for which the
    device has no memory costs nothing but time: its completions are preempted, and go on in smaller jobs. So does a
    packed program that fails: its jobs are computed again, one by one.

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
        launches = (launch for step in self._running for launch in step.launches)
        return any(running.job.llm == llm for launch in launches for running in launch.jobs)

    @property
    def must_read(self) -> bool:
        """Whether as many steps are in flight as may be."""
        return len(self._running) >= _IN_FLIGHT

    def start(self, step: Step, repeats: int = 0) -> None:
        """Give a step to the device, and its decodes so many times more, each for the next token of its sequences."""
        started: list[deque[Launch]] = [deque()]
        failure: Exception | None = None
        try:
            self._dispatch(step.jobs, started[0])
            for _ in range(repeats):
                started.append(deque())
                for launch in started[-2]:
                    started[-1].append(self._executor.repeat(launch))
        except Exception as error:
            failure = error
        now = time.monotonic()
        with self._lock:
            # The device runs steps in order: for the scheduler a job is over once the device has it.
            for job in step.jobs:
                self._scheduler.job_finished(job, now)
        self.count += len(started)
        self._running += [_RunningStep(launches, now) for launches in started]
        if isinstance(failure, PackedError):
            self._run_apart(failure.key, step.jobs, failure)
        elif failure is not None:
            failed = step.jobs[len(started[-1])]
            self._recover(failed, failure, not_started=[job for job in step.jobs if job is not failed])

    def _dispatch(self, jobs: Sequence[Job], launches: deque[Launch]) -> None:
        packed = self._executor.dispatch_packed(jobs, self._live.completions)
        if packed is not None:
            launches.append(packed)
            return
        for job in jobs:
            launches.append(self._executor.dispatch(job, self._live.completions))

    def read(self) -> None:
        """Wait for the oldest step's tokens and book them."""
        step = self._running[0]
        free_at = max(self._device_free_at, step.dispatched)
        while step.launches:
            free_at = self._read(step.launches.popleft(), free_at)
        self._device_free_at = free_at
        self._running.popleft()
        if self._trace is not None:
            pool = self._scheduler.pool
            self._trace.blocks({llm: pool.used(llm) for llm in pool.llms}, free_at)

    def _read(self, launch: Launch, free_at: float) -> float:
        """Wait for the tokens of a program that ran from `free_at` on, and book them; returns when it ended."""
        try:
            tokens = [running.read(self._live.completions) for running in launch.jobs]
        except Exception as error:
            if launch.packed is not None:
                self._run_apart(launch.packed, [running.job for running in launch.jobs], error)
            else:
                self._recover(launch.jobs[0].job, error)
            return free_at
        now = time.monotonic()
        with self._lock:
            seconds = self._scheduler.jobs_took([running.job for running in launch.jobs], now - free_at)
            for running, of_job, part in zip(launch.jobs, tokens, seconds, strict=True):
                self._book(running.job, of_job, part, now)
        if self._trace is not None:
            for running in launch.jobs:
                self._trace.job(running.job, free_at, now)
        return now

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
        """After a job failed: end its completions, and let what else was lost be computed again.

        If the device had no memory for it, and it can be smaller, its completions are preempted instead.
        """
        lost = {*self._executor.reset([job.llm]), *(other.llm for other in not_started)}
        self._drop(lost)
        now = time.monotonic()
        with self._lock:
            if _is_out_of_memory(error) and self._scheduler.back_off(job):
                _log.warning(
                    "the device has no memory for a %s of %s with %d rows: smaller ones follow (%s)",
                    job.kind.value,
                    job.llm,
                    job.num_tokens,
                    error,
                )
                self._scheduler.restart(lost, now)
                return
            _log.error("a %s of %s failed", job.kind.value, job.llm, exc_info=error)
            in_job = [chunk.sequence.id for chunk in job.chunks if chunk.sequence.id in self._live.completions]
            self._live.end(in_job, FinishReason.ERROR, now, f"{type(error).__name__} in the engine")
            self._scheduler.restart(lost, now)
            self._count_failure(job.llm, f"{type(error).__name__} in the engine")

    def _run_apart(self, key: PackedKey, jobs: Sequence[Job], error: Exception) -> None:
        """After a packed program failed, which is no request's fault: compute again what was lost, job by job."""
        _log.error("a packed program failed; such steps run one job after another from now on", exc_info=error)
        self._executor.forbid(key)
        lost = set(self._executor.reset({job.llm for job in jobs}))
        self._drop(lost)
        with self._lock:
            self._scheduler.restart(lost, time.monotonic())

    def _drop(self, llms: Collection[str]) -> None:
        """Read nothing of these LLMs' jobs in flight."""
        for step in self._running:
            kept = [replace(launch, jobs=launch.jobs_of_others(llms)) for launch in step.launches]
            step.launches.clear()
            step.launches.extend(launch for launch in kept if launch.jobs)

    def _count_failure(self, llm: str, reason: str) -> None:
        self._failures[llm] = self._failures.get(llm, 0) + 1
        if self._failures[llm] >= MAX_FAILURES:
            del self._failures[llm]
            self._give_up(llm, reason)


def _is_out_of_memory(error: Exception) -> bool:
    return "RESOURCE_EXHAUSTED" in str(error)
