"""The unit in this process: takes requests, runs the scheduler's steps, hands out tokens.

One thread runs the steps. Other threads add sequences and read the status, under a lock that the engine's thread
holds while it schedules and while it books tokens, but never while it waits for the device.
"""

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Iterable

from muxjax.serving.completion import Completion
from muxjax.serving.errors import ModelNotReady, UnknownModel
from muxjax.serving.executor.jax_executor import JaxExecutor, RunningJob, SampledToken
from muxjax.serving.executor.llm_runtime import LLMRuntime
from muxjax.serving.loading import load_llms
from muxjax.serving.outbox import Outbox
from muxjax.serving.plan import UnitPlan, build_scheduler
from muxjax.serving.progress import LLMState, Progress, Report
from muxjax.serving.request import FinishReason, Request
from muxjax.serving.scheduler.errors import NeverFitsError, QueueFullError
from muxjax.serving.scheduler.sequence import Sequence
from muxjax.serving.unit import Deliver, LLMStatus, RefusedError, UnitStatus

_log = logging.getLogger(__name__)

_STEPS_IN_FLIGHT = 2  # the next step is dispatched before the tokens of the last one are read
_IDLE_SECONDS = 0.5  # between looks at deadlines when nothing runs


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
        self._completions: dict[int, Completion] = {}
        self._receivers: dict[int, Deliver] = {}
        self._sequence_ids = itertools.count(1)
        self._aborts: deque[str] = deque()
        self._outbox = Outbox()
        self._tokens = {llm.name: [0, 0] for llm in plan.llms}  # prompt, generated
        self._steps = 0
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
                self._receivers[sequence.id] = deliver
                self._completions[sequence.id] = Completion(
                    request,
                    index,
                    sequence,
                    tokenizer=runtime.model.tokenizer,
                    eos_token_ids=runtime.model.eos_token_ids,
                )
            self._tokens[request.llm][0] += prompt_length * len(sequences)
            self._work.notify_all()

    def abort(self, request_id: str) -> None:
        """See `Unit`."""
        with self._lock:
            self._aborts.append(request_id)
            self._work.notify_all()

    def status(self) -> UnitStatus:
        """See `Unit`."""
        with self._lock:
            return UnitStatus(
                llms=tuple(self._llm_status(llm.name) for llm in self._plan.llms),
                blocks_total=self._pool.capacity,
                blocks_free=self._pool.free_blocks,
                steps=self._steps,
                fairness_gap=self._scheduler.fairness_gap(),
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
            while self._completions and (left := deadline - time.monotonic()) > 0:
                self._work.wait(min(left, _IDLE_SECONDS))
            return not self._completions

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

    def _llm_status(self, name: str) -> LLMStatus:
        queue = self._scheduler.queues[name]
        progress = self._progress[name]
        prompt_tokens, generated_tokens = self._tokens[name]
        return LLMStatus(
            name=name,
            state=progress.state.value,
            waiting=len(queue.waiting),
            running=queue.num_running,
            blocks_used=self._pool.used(name),
            blocks_quota=self._pool.quota(name),
            preemptions=queue.preemptions,
            prompt_tokens=prompt_tokens,
            generated_tokens=generated_tokens,
            error=progress.error,
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
        in_flight: deque[list[RunningJob]] = deque()
        while not self._stopping:
            try:
                self._run_once(in_flight)
            except Exception as error:
                _log.exception("a step failed; the requests that were running are lost, the server goes on")
                in_flight.clear()
                self._fail_running(error)
            self._outbox.flush()
        with self._lock:
            self._end(list(self._completions), FinishReason.ABORT)
        self._outbox.flush()

    def _run_once(self, in_flight: deque[list[RunningJob]]) -> None:
        """Dispatch the next step, if there is one, and read the oldest one's tokens, if it is time."""
        with self._lock:
            if not in_flight and not self._aborts and not self._scheduler.has_unfinished:
                self._rest()
            now = time.monotonic()
            self._apply_aborts()
            for sequence in self._scheduler.expire(now):
                self._conclude(sequence.id, FinishReason.DEADLINE)
            step = self._scheduler.schedule(now)
        if step is not None:
            try:
                in_flight.append(self._executor.dispatch(step, self._completions))
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

    def _apply_aborts(self) -> None:
        ids = set(self._aborts)
        self._aborts.clear()
        if ids:
            self._end([id_ for id_, c in self._completions.items() if c.request.id in ids], FinishReason.ABORT)

    def _read(self, jobs: list[RunningJob]) -> None:
        """Wait for a step's tokens and book them; tokens of sequences that ended meanwhile are dropped."""
        for job in jobs:
            tokens = job.read(self._completions)
            with self._lock:
                self._scheduler.tokens_read(job.job)
                for token in tokens:
                    self._book(token)

    def _book(self, token: SampledToken) -> None:
        sequence = token.chunk.sequence
        completion = self._completions.get(sequence.id)
        if completion is None:
            return
        output = completion.append(token.token_id, token.logprobs)
        self._tokens[sequence.llm][1] += 1
        self._outbox.put(self._receivers[sequence.id], output)
        if completion.is_finished:
            self._scheduler.finish(sequence, time.monotonic())
            self._forget(sequence.id)

    def _end(self, sequence_ids: Iterable[int], reason: FinishReason, error: str | None = None) -> None:
        """End sequences that the scheduler still has."""
        now = time.monotonic()
        for sequence_id in sequence_ids:
            self._scheduler.abort(sequence_id, now)
            self._conclude(sequence_id, reason, error)

    def _conclude(self, sequence_id: int, reason: FinishReason, error: str | None = None) -> None:
        """Hand out the last output of a sequence that ended for another reason than its tokens."""
        self._outbox.put(self._receivers[sequence_id], self._completions[sequence_id].end(reason, error))
        self._forget(sequence_id)

    def _forget(self, sequence_id: int) -> None:
        del self._completions[sequence_id], self._receivers[sequence_id]
        if not self._completions:
            self._work.notify_all()

    def _fail_running(self, error: Exception) -> None:
        """After a failed step the pool's contents are unknown: end all that ran, and go on with an empty pool."""
        with self._lock:
            ran = [id_ for id_, c in self._completions.items() if c.sequence.slot is not None or c.sequence.unread]
            self._end(ran, FinishReason.ERROR, f"{type(error).__name__} in the engine")
            self._executor.reset()
