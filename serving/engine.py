"""The unit in this process: takes requests, runs the scheduler's steps, hands out tokens.

One thread runs the steps. Other threads add sequences and read the status, under a lock that the engine's thread
holds while it schedules and while it books tokens, but never while it waits for the device.
"""

import itertools
import logging
import threading
import time
from collections import deque
from dataclasses import dataclass

from muxjax.serving.completion import Completion
from muxjax.serving.errors import ModelNotReady, UnknownModel
from muxjax.serving.executor.jax_executor import JaxExecutor, RunningJob
from muxjax.serving.executor.llm_runtime import LLMRuntime
from muxjax.serving.live import LiveCompletions
from muxjax.serving.loading import load_llms
from muxjax.serving.outbox import Outbox
from muxjax.serving.plan import UnitPlan, build_scheduler
from muxjax.serving.progress import LLMState, Progress, Report
from muxjax.serving.request import FinishReason, Request
from muxjax.serving.scheduler.errors import NeverFitsError, QueueFullError
from muxjax.serving.scheduler.job import JobKind
from muxjax.serving.scheduler.sequence import Sequence
from muxjax.serving.statistics import LLMStatistics, Percentiles
from muxjax.serving.unit import Deliver, LLMStatus, RefusedError, UnitStatus

_log = logging.getLogger(__name__)

_STEPS_IN_FLIGHT = 2  # the next step is dispatched before the tokens of the last one are read
_IDLE_SECONDS = 0.5  # between looks at deadlines when nothing runs


@dataclass(frozen=True, slots=True)
class _RunningStep:
    """A step on its way through the device.

    Attributes:
        jobs: in the order in which the device runs them.
        dispatched: when the device had it.
    """

    jobs: list[RunningJob]
    dispatched: float


class Engine:
    """Serves the LLMs of a plan; implements `muxjax.serving.unit.Unit`.

    `start` begins loading; each LLM takes requests as soon as it is ready. The clock is `time.monotonic`.
    """

    def __init__(self, plan: UnitPlan, report: Report) -> None:
        """`report` hears how each LLM's loading goes, from the loading thread."""
        self._plan = plan
        self._report = report
        self._pool, self._scheduler = build_scheduler(plan)
        self._executor = JaxExecutor(self._pool, plan.pool, plan.scheduling.max_prefill_tokens)
        self._progress = {llm.name: Progress(llm.name, LLMState.LOADING) for llm in plan.llms}
        self._runtimes: dict[str, LLMRuntime] = {}
        self._started = time.monotonic()
        self._statistics = {llm.name: LLMStatistics(llm.spec.slo, self._started) for llm in plan.llms}
        self._outbox = Outbox()
        self._live = LiveCompletions(self._scheduler, self._statistics, self._outbox)
        self._sequence_ids = itertools.count(1)
        self._aborts: deque[str] = deque()
        self._steps = 0
        self._device_free_at = self._started
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._draining = False
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._load, name="load", daemon=True),
            threading.Thread(target=self._run, name="engine", daemon=True),
        ]

    def start(self) -> None:
        """Begin to load the LLMs and to take requests for those that are ready."""
        for thread in self._threads:
            thread.start()

    def submit(self, request: Request, deliver: Deliver) -> None:
        """See `Unit`. Raises UnknownModel, ModelNotReady and RefusedError."""
        with self._lock:
            runtime = self._ready_runtime(request.llm)
            now = time.monotonic()
            prompt_length = len(request.prompt_token_ids)
            max_length = prompt_length + (request.sampling.max_tokens or 1)
            sequences = [
                Sequence(next(self._sequence_ids), request.llm, prompt_length, max_length, now, request.deadline)
                for _ in range(request.sampling.n)
            ]
            try:
                self._scheduler.add_all(sequences, now)
            except QueueFullError as error:
                raise RefusedError(str(error), error.retry_after) from error
            except NeverFitsError as error:
                raise RefusedError(str(error)) from error
            for index, sequence in enumerate(sequences):
                completion = Completion(
                    request,
                    index,
                    sequence,
                    tokenizer=runtime.model.tokenizer,
                    eos_token_ids=runtime.model.eos_token_ids,
                )
                self._live.add(completion, deliver)
            self._statistics[request.llm].prompt_tokens += prompt_length * len(sequences)
            self._work.notify_all()

    def abort(self, request_id: str) -> None:
        """See `Unit`."""
        with self._lock:
            self._aborts.append(request_id)
            self._work.notify_all()

    def status(self) -> UnitStatus:
        """See `Unit`."""
        with self._lock:
            now = time.monotonic()
            seconds = [sums for llm in self._statistics.values() for sums in llm.job_seconds.values()]
            total = sum(recent.total(now) for recent in seconds)
            return UnitStatus(
                llms=tuple(self._llm_status(llm.name, now, total) for llm in self._plan.llms),
                blocks_total=self._pool.capacity,
                blocks_free=self._pool.free_blocks,
                steps=self._steps,
                fairness_gap=self._scheduler.fairness_gap(),
                busy=sum(recent.rate(now, self._started) for recent in seconds),
            )

    @property
    def is_draining(self) -> bool:
        """Whether new requests are refused."""
        return self._draining

    def drain(self, seconds: float) -> bool:
        """Refuse new requests and wait for those that run; returns whether all of them ended in time."""
        deadline = time.monotonic() + seconds
        with self._lock:
            self._draining = True
            self._work.notify_all()
            while self._live and (left := deadline - time.monotonic()) > 0:
                self._work.wait(min(left, _IDLE_SECONDS))
            return not self._live

    def close(self) -> None:
        """Abort what still runs and stop. An engine can be closed more than once."""
        with self._lock:
            self._draining = self._stopping = True
            self._work.notify_all()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        self._executor.close()

    def _ready_runtime(self, llm: str) -> LLMRuntime:
        if self._draining:
            raise RefusedError("the server is shutting down")
        if llm not in self._progress:
            raise UnknownModel(llm, self._progress)
        if llm not in self._runtimes:
            progress = self._progress[llm]
            raise ModelNotReady(
                f"{llm} failed to load: {progress.error}" if progress.error else f"{llm} is {progress.state.value}"
            )
        return self._runtimes[llm]

    def _llm_status(self, name: str, now: float, job_seconds: float) -> LLMStatus:
        """`job_seconds` are those of all LLMs' recent jobs."""
        queue = self._scheduler.queues[name]
        progress = self._progress[name]
        statistics = self._statistics[name]
        prefill, decode = (
            statistics.job_seconds[kind].total(now) / job_seconds if job_seconds else 0.0 for kind in JobKind
        )
        return LLMStatus(
            name=name,
            state=progress.state.value,
            waiting=len(queue.waiting),
            running=queue.num_running,
            blocks_used=self._pool.used(name),
            blocks_quota=self._pool.quota(name),
            preemptions=queue.preemptions,
            prompt_tokens=statistics.prompt_tokens,
            generated_tokens=statistics.generated_tokens,
            error=progress.error,
            blocks_entitled=self._scheduler.initial_quotas[name],
            errors=statistics.ended[FinishReason.ERROR],
            prefill_share=prefill,
            decode_share=decode,
            tokens_per_second=statistics.tokens_per_second(now),
            ttft=Percentiles.of(statistics.ttft.values(now)),
            tpot=Percentiles.of(statistics.tpot.values(now)),
            slo=statistics.slo,
            slo_attainment=statistics.attainment(now),
        )

    def _load(self) -> None:
        def on_ready(runtime: LLMRuntime) -> None:
            self._executor.add(runtime)
            self._runtimes[runtime.spec.name] = runtime

        def report(progress: Progress) -> None:
            self._progress[progress.llm] = progress
            self._report(progress)

        load_llms(self._plan.llms, self._executor, on_ready, report, lambda: self._stopping)

    def _run(self) -> None:
        in_flight: deque[_RunningStep] = deque()
        while not self._stopping:
            try:
                self._run_once(in_flight)
            except Exception as error:
                _log.exception("a step failed; the requests that were running are lost, the server goes on")
                in_flight.clear()
                self._fail_running(error)
            self._outbox.flush()
        with self._lock:
            self._live.end(list(self._live.completions), FinishReason.ABORT, time.monotonic())
            self._work.notify_all()
        self._outbox.flush()

    def _run_once(self, in_flight: deque[_RunningStep]) -> None:
        """Dispatch the next step, if there is one, and read the oldest one's tokens, if it is time."""
        with self._lock:
            if not in_flight and not self._aborts and not self._scheduler.has_unfinished:
                self._rest()
            now = time.monotonic()
            self._apply_aborts(now)
            expired = [sequence.id for sequence in self._scheduler.expire(now)]
            self._live.end(expired, FinishReason.DEADLINE, now)
            step = self._scheduler.schedule(now)
            if step is not None:
                self._live.started(step, now)
        if step is not None:
            try:
                jobs = self._executor.dispatch(step, self._live.completions)
                in_flight.append(_RunningStep(jobs, time.monotonic()))
                self._steps += 1
            finally:
                # The device runs steps in order: for the scheduler a job is over once the device has it.
                for job in step.jobs:
                    self._scheduler.job_finished(job, now)
        if in_flight and (step is None or len(in_flight) >= _STEPS_IN_FLIGHT):
            self._read(in_flight.popleft())

    def _rest(self) -> None:
        """Nothing runs: check the books, and wait for work."""
        self._pool.check_integrity()
        while not (self._stopping or self._aborts or self._scheduler.has_unfinished):
            self._work.wait(_IDLE_SECONDS)

    def _apply_aborts(self, now: float) -> None:
        ids = set(self._aborts)
        self._aborts.clear()
        if ids:
            self._live.end(self._live.of_requests(ids), FinishReason.ABORT, now)

    def _read(self, step: _RunningStep) -> None:
        """Wait for a step's tokens and book them."""
        free_at = max(self._device_free_at, step.dispatched)
        for job in step.jobs:
            tokens = job.read(self._live.completions)
            with self._lock:
                now = time.monotonic()
                self._statistics[job.job.llm].job_read(job.job.kind, len(tokens), now - free_at, now)
                free_at = now
                self._scheduler.tokens_read(job.job)
                for token in tokens:
                    self._live.book(token, now)
                if not self._live:
                    self._work.notify_all()
        self._device_free_at = free_at

    def _fail_running(self, error: Exception) -> None:
        """After a failed step the pool's contents are unknown: end all that ran, and go on with an empty pool."""
        with self._lock:
            completions = self._live.completions.items()
            ran = [id_ for id_, c in completions if c.sequence.slot is not None or c.sequence.unread]
            self._live.end(ran, FinishReason.ERROR, time.monotonic(), f"{type(error).__name__} in the engine")
            self._executor.reset()
