"""A unit whose jobs run in processes of their own, each as soon as its compute share is free."""

from bisect import bisect_left
from math import inf

from muxjax.serving.scheduler.job import JobKind
from muxjax.serving.scheduler.scheduler import Scheduler
from muxjax.serving.simulation.process_plant import ProcessPlant
from muxjax.serving.simulation.unit_simulation import Run, UnitSimulation, ends_of


class ProcessSimulation(UnitSimulation):
    """MuxServe and its baselines: whenever a job ends or a request arrives, jobs may start beside those in flight."""

    def __init__(
        self, scheduler: Scheduler, plant: ProcessPlant, *, restarts: bool = False, leaps: bool = True
    ) -> None:
        super().__init__(scheduler, restarts=restarts, leaps=leaps)
        self._plant = plant

    def _start(self, now: float, next_arrival: float) -> None:
        step = self._schedule(now)
        started = step.jobs if step else ()
        for job in started:
            if job.kind is JobKind.PREFILL:
                run = self._runs[job.llm, job.kind]
                run.ends = [now + self._plant.prefill_seconds(run.load(), self._runs)]
        decodes = {job.llm for job in started if job.kind is JobKind.DECODE}
        for (llm, kind), run in self._runs.items():
            if kind is JobKind.DECODE:
                steps = self._scheduler.repeatable_steps(run.job) if self._leaps else 0
                if llm in decodes:
                    self._leap(run, now, 1 + steps, next_arrival)
                elif steps:
                    self._leap(run, run.ends[0], steps, next_arrival)

    def _leap(self, run: Run, begin: float, steps: int, horizon: float) -> None:
        """Let a decode take so many steps more, but not many that begin after the horizon."""
        load = run.load(ahead=len(run.ends))
        if steps > 1 and horizon < inf:
            one = float(self._plant.decode_seconds(load, self._runs, 1)[0])
            steps = int(min(steps, max(0.0, horizon - begin) / one + 1))
        seconds = self._plant.decode_seconds(load, self._runs, steps)
        ends = run.ends + ends_of(begin, seconds)
        last = bisect_left(ends, self._scheduler.next_change)  # the first end at which the policy changes
        run.ends = ends[: last + 1]
