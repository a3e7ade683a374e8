"""The unit in this process: takes requests, runs the scheduler's steps, hands out tokens.

One thread runs the steps. Other threads add sequences and read the status, under a lock that the engine's thread
holds while it schedules and while it books tokens, but never while it waits for the device.
"""

import gc
import itertools
import logging
import math
import queue
import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace

import jax

from muxjax.models.spread import make_mesh
from muxjax.serving.completion import Completion
from muxjax.serving.errors import ModelNotReady, UnknownModel
from muxjax.serving.executor.jax_executor import JaxExecutor
from muxjax.serving.executor.llm_runtime import LLMRuntime
from muxjax.serving.live import LiveCompletions
from muxjax.serving.loading import load_llms
from muxjax.serving.management import ManagementError
from muxjax.serving.outbox import Outbox
from muxjax.serving.plan import LLMPlan, PlanError, UnitPlan, build_scheduler, extend_plan, share_of
from muxjax.serving.progress import LLMState, Progress, Report
from muxjax.serving.request import FinishReason, Request
from muxjax.serving.scheduler.errors import NeverFitsError, QueueFullError
from muxjax.serving.scheduler.sequence import Sequence
from muxjax.serving.spec import LLMSpec
from muxjax.serving.statistics import LLMStatistics
from muxjax.serving.status import unit_status
from muxjax.serving.steps import MAX_FAILURES, Steps
from muxjax.serving.trace import TraceWriter
from muxjax.serving.unit import Deliver, RefusedError, UnitStatus

_log = logging.getLogger(__name__)

_IDLE_SECONDS = 0.5  # between turns of the loop when nothing runs
_DRAIN_SECONDS = 0.02  # between looks at what still runs
_MOST_FAILURES = 3  # turns in a row that fail before the loop gives up
_CLOSE_SECONDS = 60.0  # for a loop that hangs, or a program that compiles, to end


@dataclass(frozen=True, slots=True)
class _Removal:
    """An LLM that is to be unloaded when nothing of it runs, which is ended at the deadline."""

    deadline: float
    done: threading.Event = field(default_factory=threading.Event)


class Engine:
    """Serves the LLMs of a plan; implements `muxjax.serving.unit.Unit`.

    `start` begins loading; each LLM takes requests as soon as it is ready. The clock is `time.monotonic`.

    A job that fails costs the requests that were in it (see `Steps`), an LLM that keeps failing is given up, and the
    others go on. Should the loop itself fail, all requests end with an error; if it keeps failing, it ends.
    """

    def __init__(
        self,
        plan: UnitPlan,
        report: Report,
        trace: TraceWriter | None = None,
        devices: tuple[jax.Device, ...] | None = None,
    ) -> None:
        """`report` hears how the LLMs fare, from the unit's own threads; `trace` of all that runs.

        The LLMs are spread over `devices`, as many as planned; None takes the first ones.
        """
        self._plan = plan
        self._report = report
        self._pool, self._scheduler = build_scheduler(plan)
        scheduling = plan.scheduling
        mesh = make_mesh(devices or tuple(jax.local_devices()[: plan.tensor_parallel]))
        self._executor = JaxExecutor(
            self._pool, plan.pool, scheduling.max_prefill_tokens, mesh, overlap=scheduling.overlap
        )
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
        self._to_load: queue.SimpleQueue[LLMPlan | None] = queue.SimpleQueue()
        self._removals: dict[str, _Removal] = {}
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
            return unit_status(
                self._progress.values(), self._scheduler, self._statistics, self._steps.count, self._started
            )

    @property
    def llms(self) -> tuple[str, ...]:
        """The LLMs that it has now, ready or not."""
        return tuple(self._progress)

    def load(self, spec: LLMSpec) -> None:
        """See `ManagedUnit`."""
        with self._lock:
            known = self._progress.get(spec.name)
            if known is not None and known.state is not LLMState.FAILED:
                raise ManagementError(f"{spec.name} is {known.state} already: unload it first")
            try:
                plan = extend_plan(self._plan, spec)
            except PlanError as error:
                raise ManagementError(str(error)) from error
            if known is not None and spec.name in self._scheduler.queues:  # given up, not failed to load
                self._withdraw(spec.name)
            added = plan.llms[-1]
            self._pool.add_llm(spec.name, added.config.num_layers, added.kv_heads, added.config.head_dim)
            self._scheduler.add_llm(spec.name, share_of(spec, added.config, added.max_context, plan.scheduling))
            self._statistics[spec.name] = LLMStatistics(spec.slo, time.monotonic())
            self._plan = plan
            self._set_progress(Progress(spec.name, LLMState.LOADING))
        self._to_load.put(added)

    def unload(self, llm: str, seconds: float) -> None:
        """See `ManagedUnit`."""
        with self._lock:
            if self._known(llm).state in (LLMState.LOADING, LLMState.COMPILING):
                raise ManagementError(f"{llm} is {self._progress[llm].state}: wait until it is ready")
            removal = self._removals.setdefault(llm, _Removal(time.monotonic() + seconds))
            self._set_progress(replace(self._progress[llm], state=LLMState.DRAINING))
        self._work.set()
        if not removal.done.wait(seconds + _CLOSE_SECONDS):
            raise ManagementError(f"{llm} drains still: the engine does not respond")
        gc.collect()  # a runtime and its programs refer to each other

    def drain_llm(self, llm: str) -> None:
        """See `ManagedUnit`."""
        self._change_state(llm, LLMState.READY, LLMState.DRAINING)

    def resume_llm(self, llm: str) -> None:
        """See `ManagedUnit`."""
        self._change_state(llm, LLMState.DRAINING, LLMState.READY)

    def set_rate(self, llm: str, rate: float) -> None:
        """See `ManagedUnit`."""
        with self._lock:
            self._scheduled(llm)
            try:
                self._scheduler.set_rate(llm, rate)
            except ValueError as error:
                raise ManagementError(str(error)) from error

    def set_quota(self, llm: str, blocks: int) -> None:
        """See `ManagedUnit`."""
        with self._lock:
            self._scheduled(llm)
            try:
                self._scheduler.set_quota(llm, blocks)
            except ValueError as error:
                raise ManagementError(str(error)) from error

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
        self._to_load.put(None)
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
        progress = self._progress[llm]
        if progress.state is not LLMState.READY or llm not in self._runtimes:
            raise ModelNotReady(
                f"{llm} failed: {progress.error}" if progress.error else f"{llm} is {progress.state.value}"
            )
        return self._runtimes[llm]

    def _known(self, llm: str) -> Progress:
        if llm not in self._progress:
            raise ManagementError(str(UnknownModel(llm, self._progress)))
        return self._progress[llm]

    def _scheduled(self, llm: str) -> None:
        if self._known(llm) and llm not in self._scheduler.queues:
            raise ManagementError(f"{llm} could not be loaded, and has no part of the pool: load it again")

    def _change_state(self, llm: str, before: LLMState, after: LLMState) -> None:
        with self._lock:
            progress = self._known(llm)
            if progress.state is not before or llm in self._removals:
                raise ManagementError(f"{llm} is {progress.state}, not {before}")
            self._set_progress(replace(progress, state=after))

    def _load(self) -> None:
        def on_ready(runtime: LLMRuntime) -> None:
            self._executor.add(runtime)
            self._runtimes[runtime.spec.name] = runtime

        def report(progress: Progress) -> None:
            if progress.state is LLMState.FAILED:
                with self._lock:
                    self._withdraw(progress.llm)
            self._set_progress(progress)

        load_llms(self._plan.llms, self._executor, on_ready, report, lambda: self._stopping)
        while (plan := self._to_load.get()) is not None:
            load_llms((plan,), self._executor, on_ready, report, lambda: self._stopping)
            gc.collect()  # what was loaded of one that failed

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
        if not (self._steps.in_flight or self._aborts or self._removals or self._scheduler.has_unfinished):
            self._rest()
            return False
        self._is_checked = False
        with self._lock:
            self._apply_aborts(now)
            expired = [sequence.id for sequence in self._scheduler.expire(now)]
            self._live.end(expired, FinishReason.DEADLINE, now)
            self._apply_removals(now)
            step = None if self._steps.must_read else self._scheduler.schedule(now)
            if step is not None:
                self._live.started(step, now)
                steps = self._scheduler.book_burst(step, self._plan.scheduling.max_decode_steps)
        if step is not None:
            self._steps.start(step, repeats=steps - 1)
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

    def _apply_removals(self, now: float) -> None:
        """Forget the LLMs that are to be unloaded and have finished."""
        for llm, removal in list(self._removals.items()):
            if now >= removal.deadline:
                self._live.end(self._live.of_llm(llm), FinishReason.ABORT, now)
            if not self._live.of_llm(llm) and not self._steps.runs(llm):
                if llm in self._scheduler.queues:
                    self._withdraw(llm)
                del self._removals[llm], self._statistics[llm]
                self._set_progress(Progress(llm, LLMState.UNLOADED))
                del self._progress[llm]
                removal.done.set()

    def _withdraw(self, llm: str) -> None:
        """Take an LLM that has no sequences out of all that runs; the others have its part of the pool."""
        self._scheduler.remove_llm(llm)
        self._pool.remove_llm(llm)
        self._executor.remove(llm)
        self._runtimes.pop(llm, None)
        self._plan = replace(self._plan, llms=tuple(other for other in self._plan.llms if other.name != llm))

    def _fail_all(self, error: Exception) -> None:
        """After the loop failed nothing is certain: end every request, and go on with an empty pool."""
        with self._lock:
            ids = list(self._live.completions)
            self._live.end(ids, FinishReason.ERROR, time.monotonic(), f"{type(error).__name__} in the engine")
        self._steps.abandon()
