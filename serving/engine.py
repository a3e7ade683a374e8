"""The unit in this process: takes requests, runs the scheduler's steps, hands out tokens.

One thread runs the steps. Other threads add sequences and read the status, under a lock that the engine's thread
holds while it schedules and while it books tokens, but never while it waits for the device.
"""

import itertools
import logging
import math
import threading
import time
from collections import deque

from muxjax.serving.completion import Completion
from muxjax.serving.errors import ModelNotReady, UnknownModel
from muxjax.serving.executor.jax_executor import JaxExecutor
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
from muxjax.serving.steps import MAX_FAILURES, Steps
from muxjax.serving.trace import TraceWriter
from muxjax.serving.unit import Deliver, LLMStatus, RefusedError, UnitStatus

_log = logging.getLogger(__name__)

_IDLE_SECONDS = 0.5  # between turns of the loop when nothing runs
_DRAIN_SECONDS = 0.02  # between looks at what still runs
_MOST_FAILURES = 3  # turns in a row that fail before the loop gives up
_CLOSE_SECONDS = 60.0  # for a loop that hangs, or a program that compiles, to end


class Engine:
    """Serves the LLMs of a plan; implements `muxjax.serving.unit.Unit`.

    `start` begins loading; each LLM takes requests as soon as it is ready. The clock is `time.monotonic`.

    A job that fails costs the requests that were in it (see `Steps`), an LLM that keeps failing is given up, and the
    others go on. Should the loop itself fail, all requests end with an error; if it keeps failing, it ends.
    """

    def __init__(self, plan: UnitPlan, report: Report, trace: TraceWriter | None = None) -> None:
        """`report` hears how the LLMs fare, from the unit's own threads; `trace` of all that runs."""
        self._plan = plan
        self._report = report
        self._pool, self._scheduler = build_scheduler(plan)
        self._executor = JaxExecutor(self._pool, plan.pool, plan.scheduling.max_prefill_tokens)
        self._progress = {llm.name: Progress(llm.name, LLMState.LOADING) for llm in plan.llms}
        self._runtimes: dict[str, LLMRuntime] = {}
        self._started = time.monotonic()
        self._statistics = {llm.name: LLMStatistics(llm.spec.slo, self._started) for llm in plan.llms}
        self._outbox = Outbox()
        self._trace = trace
        self._live = LiveCompletions(self._scheduler, self._statistics, self._outbox, trace)
        self._sequence_ids = itertools.count(1)
        self._aborts: deque[str] = deque()
        self._lock = threading.Lock()
        self._steps = Steps(
            self._scheduler, self._executor, self._live, self._statistics, self._lock, trace, give_up=self._give_up
        )
        self._work = threading.Event()
        self._last_turn = self._started
        self._is_checked = False
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
                Sequence(
                    next(self._sequence_ids),
                    request.llm,
                    prompt_length,
                    max_length,
                    now,
                    request.deadline,
                    request.caller,
                )
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
        self._work.set()

    def abort(self, request_id: str) -> None:
        """See `Unit`. It takes no lock, so that a loop that hangs does not make its callers hang."""
        self._aborts.append(request_id)
        self._work.set()

    def seconds_since_turn(self, llm: str) -> float:
        """See `Unit`."""
        return time.monotonic() - self._last_turn

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
                steps=self._steps.count,
                fairness_gap=self._scheduler.fairness_gap(),
                busy=sum(recent.rate(now, self._started) for recent in seconds),
            )

    @property
    def is_draining(self) -> bool:
        """Whether new requests are refused."""
        return self._draining

    def drain(self, seconds: float) -> bool:
        """Refuse new requests and wait for those that run; returns whether all of them ended in time."""
        self._draining = True
        deadline = time.monotonic() + seconds
        while self._live and time.monotonic() < deadline:
            time.sleep(_DRAIN_SECONDS)
        return not self._live

    def close(self) -> None:
        """Abort what still runs and stop. An engine can be closed more than once."""
        self._draining = self._stopping = True
        self._work.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(_CLOSE_SECONDS)
                if thread.is_alive():
                    _log.error("the %s thread does not end; it is left behind", thread.name)
        self._executor.close()
        if self._trace is not None and not self._threads[1].is_alive():
            self._trace.close()
            self._trace = None

    def _ready_runtime(self, llm: str) -> LLMRuntime:
        if self._draining:
            raise RefusedError("the server is shutting down")
        if llm not in self._progress:
            raise UnknownModel(llm, self._progress)
        if llm not in self._runtimes:
            progress = self._progress[llm]
            raise ModelNotReady(
                f"{llm} failed: {progress.error}" if progress.error else f"{llm} is {progress.state.value}"
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
            ended=dict(statistics.ended),
            latencies=statistics.latencies(),
        )

    def _load(self) -> None:
        def on_ready(runtime: LLMRuntime) -> None:
            self._executor.add(runtime)
            self._runtimes[runtime.spec.name] = runtime

        load_llms(self._plan.llms, self._executor, on_ready, self._set_progress, lambda: self._stopping)

    def _give_up(self, llm: str, reason: str) -> None:
        """An LLM whose jobs keep failing: its requests end, and it takes none until it is loaded again."""
        error = f"it failed {MAX_FAILURES} times in a row, the last time with {reason}; load it again"
        _log.error("%s is given up: %s", llm, error)
        self._live.end(self._live.of_llm(llm), FinishReason.ERROR, time.monotonic(), error)
        self._executor.remove(llm)
        del self._runtimes[llm]
        self._set_progress(Progress(llm, LLMState.FAILED, error=error))

    def _set_progress(self, progress: Progress) -> None:
        self._progress[progress.llm] = progress
        self._report(progress)

    def _run(self) -> None:
        failures = 0
        while not self._stopping and failures < _MOST_FAILURES:
            try:
                if self._turn():
                    failures = 0
            except Exception as error:
                failures += 1
                _log.exception("the engine's loop failed: what ran is lost")
                self._fail_all(error)
            self._outbox.flush()
        if not self._stopping:
            _log.critical("the engine's loop failed %d times in a row, and ends", failures)
            self._draining = True
            self._last_turn = -math.inf
        with self._lock:
            self._live.end(list(self._live.completions), FinishReason.ABORT, time.monotonic())
        self._outbox.flush()

    def _turn(self) -> bool:
        """Start the next step, if there is one, and read the oldest one's tokens, if it is time; false: it rested."""
        now = self._last_turn = time.monotonic()
        if not (self._steps.in_flight or self._aborts or self._scheduler.has_unfinished):
            self._rest()
            return False
        self._is_checked = False
        with self._lock:
            self._apply_aborts(now)
            expired = [sequence.id for sequence in self._scheduler.expire(now)]
            self._live.end(expired, FinishReason.DEADLINE, now)
            step = self._scheduler.schedule(now)
            if step is not None:
                self._live.started(step, now)
        if step is not None:
            self._steps.start(step)
        if self._steps.must_read or (step is None and self._steps.in_flight):
            self._steps.read()
        return True

    def _rest(self) -> None:
        """Nothing runs: check the books, and wait for work."""
        if not self._is_checked:
            with self._lock:
                self._pool.check_integrity()
            self._is_checked = True
        if self._trace is not None:
            self._trace.flush()
        self._work.wait(_IDLE_SECONDS)
        self._work.clear()

    def _apply_aborts(self, now: float) -> None:
        ids = {self._aborts.popleft() for _ in range(len(self._aborts))}
        if ids:
            self._live.end(self._live.of_requests(ids), FinishReason.ABORT, now)

    def _fail_all(self, error: Exception) -> None:
        """After the loop failed nothing is certain: end every request, and go on with an empty pool."""
        with self._lock:
            ids = list(self._live.completions)
            self._live.end(ids, FinishReason.ERROR, time.monotonic(), f"{type(error).__name__} in the engine")
        self._steps.abandon()
