"""One unit in virtual time: the server's scheduler, with a plant in place of the device."""

from bisect import bisect_left
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from math import inf

import numpy as np

from muxjax.placement.workload import Request
from muxjax.serving.scheduler.errors import NeverFitsError
from muxjax.serving.scheduler.job import Job, JobKind
from muxjax.serving.scheduler.scheduler import Scheduler
from muxjax.serving.scheduler.sequence import Sequence
from muxjax.serving.simulation.plant import Plant


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
class _Run:
    """A job in flight. A decode may go on for several steps: `ends` are the ends of them all, ascending.

    `began` is when the last one booked began.
    """

    job: Job
    began: float
    ends: list[float]


class UnitSimulation:
    """Runs requests through a scheduler until the last has ended or the time is up.

    Decode steps in which nothing is decided are leapt over: a decode that may be repeated runs up to `repeatable_steps`
    steps as one event. When something happens before its end, the steps that had begun are booked, and it goes on from
    there as it must.
    """

    def __init__(self, scheduler: Scheduler, plant: Plant, *, leaps: bool = True) -> None:
        """Without `leaps` every decode step is an event: the reference for tests."""
        self.events = 0
        self._scheduler = scheduler
        self._plant = plant
        self._leaps = leaps
        self._runs: dict[tuple[str, JobKind], _Run] = {}
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
            for run in [run for run in self._runs.values() if run.ends[-1] <= now]:
                self._end(run, now)
            self._start(now)
        return [self._outcomes.get(number, Outcome(request)) for number, request in enumerate(arrivals)]

    def _arrive(self, number: int, request: Request) -> None:
        length = request.prompt_len + request.output_len
        self._outcomes[number] = Outcome(request)
        with suppress(NeverFitsError):  # refused, as by the server: it never ends
            sequence = Sequence(number, request.llm, request.prompt_len, length, request.arrival)
            self._scheduler.add(sequence, request.arrival)

    def _break_leaps(self, now: float) -> None:
        """Book the steps that have begun; the last of them is the one that is in flight."""
        for run in self._runs.values():
            if len(run.ends) > 1:
                begun = min(bisect_left(run.ends, now), len(run.ends) - 1)
                if begun:
                    self._scheduler.repeat_decode(run.job, begun)
                    run.began = run.ends[begun - 1]
                run.ends = [run.ends[begun]]

    def _end(self, run: _Run, now: float) -> None:
        job = run.job
        del self._runs[job.llm, job.kind]
        self._scheduler.jobs_took([job], now - run.began)
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

    def _start(self, now: float) -> None:
        step = self._scheduler.schedule(now)
        started = step.jobs if step else ()
        for job in started:
            self._runs[job.llm, job.kind] = _Run(job, now, [])
        for job in started:
            if job.kind is JobKind.PREFILL:
                self._runs[job.llm, job.kind].ends = [now + self._plant.prefill_seconds(job, self._runs)]
        if self._leaps or started:
            self._go_on(now, {job.llm for job in started if job.kind is JobKind.DECODE})

    def _go_on(self, now: float, started: set[str]) -> None:
        """Give the decodes their ends: one step to those that started, and leaps to all that may repeat."""
        may_leap = self._leaps and self._all_decode()
        for (llm, kind), run in self._runs.items():
            if kind is JobKind.PREFILL:
                continue
            steps = self._scheduler.repeatable_steps(run.job) if may_leap else 0
            if not steps and llm not in started:
                continue
            sequences = [chunk.sequence for chunk in run.job.chunks]
            context = sum(sequence.num_tokens for sequence in sequences) / len(sequences) - 1
            first = 0 if llm in started else 1
            contexts = context + np.arange(first, steps + 1, dtype=np.float64)
            seconds = self._plant.decode_seconds(llm, len(sequences), contexts, self._runs)
            begin = now if llm in started else run.ends[0]
            ends = list(run.ends[:first]) + np.add.accumulate(np.concatenate(([begin], seconds)))[1:].tolist()
            last = bisect_left(ends, self._scheduler.next_change)  # the first end at which the policy changes
            run.ends = ends[: last + 1]

    def _all_decode(self) -> bool:
        """Whether every LLM that has sequences to decode does so: then no decode waits for another's compute."""
        return all(
            not queue.decoding or (llm, JobKind.DECODE) in self._runs for llm, queue in self._scheduler.queues.items()
        )
