"""One unit in virtual time: the server's scheduler, with a plant in place of the device."""

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from math import inf

import numpy as np
from numpy.typing import NDArray

from muxjax.placement.workload import Request
from muxjax.serving.scheduler.errors import NeverFitsError
from muxjax.serving.scheduler.job import Job, JobKind, Step
from muxjax.serving.scheduler.scheduler import Scheduler
from muxjax.serving.scheduler.sequence import Sequence
from muxjax.serving.simulation.load import Load


@dataclass(slots=True)
class Outcome:
    """What became of a request, in seconds of virtual time; infinity: not before the end, or refused since it would
    never fit.

    Attributes:
        request: what was asked.
        first_token: when its first token was there.
        finished: when its last one was.
    """

    request: Request
    first_token: float = inf
    finished: float = inf


@dataclass(slots=True)
class Run:
    """A job in flight. A decode may go on for several steps: `ends` are the ends of them all, ascending.

    `began` is when the step in flight began.
    """

    job: Job
    began: float
    ends: list[float]

    def load(self, ahead: int = 0) -> Load:
        """What plants see of it, at a step that is so far ahead of the one in flight."""
        job = self.job
        if job.kind is JobKind.PREFILL:
            return Load(job.llm, job.kind, len(job.chunks), job.num_tokens / len(job.chunks))
        tokens = sum([chunk.sequence.num_tokens for chunk in job.chunks])
        return Load(job.llm, job.kind, len(job.chunks), tokens / len(job.chunks) - 1 + ahead)


class UnitSimulation(ABC):
    """Runs requests through a scheduler until the last has ended or the time is up.

    Decode steps in which nothing is decided are leapt over: a decode that may be repeated runs up to `repeatable_steps`
    steps as one event. When something happens before its end, the steps that had begun are booked, and it goes on from
    there as it must.
    """

    def __init__(self, scheduler: Scheduler, *, restarts: bool = False, leaps: bool = True) -> None:
        """
        Args:
            scheduler: of the unit; it has no sequences yet.
            restarts: a preempted sequence loses the tokens that it has, and not only their keys and values.
            leaps: without them every decode step is an event: the reference for tests.
        """
        self.events = 0
        self._scheduler = scheduler
        self._restarts = restarts
        self._leaps = leaps
        self._runs: dict[tuple[str, JobKind], Run] = {}
        self._outcomes: dict[int, Outcome] = {}

    def run(self, requests: Iterable[Request], until: float = inf) -> list[Outcome]:
        """Outcomes in the order of the requests, which is that of their arrivals."""
        arrivals = list(requests)
        index = 0
        while index < len(arrivals) or self._scheduler.has_unfinished:
            now = min(
                arrivals[index].arrival if index < len(arrivals) else inf,
                min((run.ends[-1] for run in self._runs.values()), default=inf),
            )
            if now > until or now == inf:
                break
            self.events += 1
            self._break_leaps(now)
            while index < len(arrivals) and arrivals[index].arrival <= now:
                self._arrive(index, arrivals[index])
                index += 1
            ended = [run for run in self._runs.values() if run.ends[-1] <= now]
            self._learn(ended, now)
            for run in ended:
                self._end(run, now)
            self._start(now, arrivals[index].arrival if index < len(arrivals) else inf)
        return [self._outcomes.get(number, Outcome(request)) for number, request in enumerate(arrivals)]

    @abstractmethod
    def _start(self, now: float, next_arrival: float) -> None:
        """Start what can start, and give all runs their ends."""

    def _learn(self, ended: list[Run], now: float) -> None:
        """Tell the scheduler how long jobs took that ended now."""
        for run in ended:
            self._scheduler.jobs_took([run.job], now - run.began)

    def _schedule(self, now: float) -> Step | None:
        """Runs of the jobs that start now, without ends."""
        step = self._scheduler.schedule(now)
        for job in step.jobs if step else ():
            self._runs[job.llm, job.kind] = Run(job, now, [])
        for queue in self._scheduler.queues.values() if self._restarts else ():
            for sequence in takewhile(lambda waiting: waiting.preemptions, queue.waiting):  # they wait before new ones
                sequence.num_tokens = sequence.prompt_length
        return step

    def _arrive(self, number: int, request: Request) -> None:
        length = request.prompt_len + request.output_len
        self._outcomes[number] = Outcome(request)
        with suppress(NeverFitsError):  # refused, as by the server: it never ends
            sequence = Sequence(number, request.llm, request.prompt_len, length, request.arrival)
            self._scheduler.add(sequence, request.arrival)

    def _break_leaps(self, now: float) -> None:
        """Book the steps that have begun; the last of them is the one that is in flight.

        They are booked in the order in which those in flight began: LLMs take turns.
        """
        begun = []
        for run in self._runs.values():
            if len(run.ends) > 1:
                steps = min(bisect_left(run.ends, now), len(run.ends) - 1)
                if steps:
                    run.began = run.ends[steps - 1]
                    begun.append((run, steps))
                run.ends = [run.ends[steps]]
        for run, steps in sorted(begun, key=lambda repeated: repeated[0].began):
            self._scheduler.repeat_decode(run.job, steps)

    def _end(self, run: Run, now: float) -> None:
        job = run.job
        del self._runs[job.llm, job.kind]
        self._scheduler.job_finished(job, now)
        self._scheduler.tokens_read(job)
        for chunk in job.chunks:
            if chunk.samples and job.kind is JobKind.PREFILL:
                outcome = self._outcomes[chunk.sequence.id]
                outcome.first_token = min(outcome.first_token, now)
        for sequence in list(self._scheduler.queues[job.llm].completing.values()):
            if not sequence.in_flight:
                self._outcomes[sequence.id].finished = now
                self._scheduler.finish(sequence, now)


def ends_of(begin: float, seconds: NDArray[np.float64]) -> list[float]:
    """When steps end that follow one another; rounded as if they were added one by one, so that ties stay ties."""
    ends: list[float] = np.add.accumulate(np.concatenate(([begin], seconds)))[1:].tolist()
    return ends
