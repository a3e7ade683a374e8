"""A unit that runs in steps, as muxjax does: the jobs of a step start together and are read together."""

from bisect import bisect_left
from math import inf

from muxjax.serving.scheduler.job import JobKind
from muxjax.serving.scheduler.scheduler import Scheduler
from muxjax.serving.simulation.step_plant import StepPlant
from muxjax.serving.simulation.unit_simulation import Run, UnitSimulation, ends_of


class StepSimulation(UnitSimulation):
    """One step after another; requests that arrive meanwhile wait for its end, so that a prefill chunk bounds how long
    decodes wait. The host prepares the next step while one runs, and takes no time of its own."""

    def __init__(self, scheduler: Scheduler, plant: StepPlant, *, leaps: bool = True) -> None:
        super().__init__(scheduler, leaps=leaps)
        self._plant = plant

    def _learn(self, ended: list[Run], now: float) -> None:
        if ended:
            self._scheduler.jobs_took([run.job for run in ended], now - ended[0].began)

    def _start(self, now: float, next_arrival: float) -> None:
        if self._runs or self._schedule(now) is None:
            return
        runs = list(self._runs.values())
        loads = [run.load() for run in runs]
        steps = 1
        if self._leaps and all(run.job.kind is JobKind.DECODE for run in runs):
            steps += min(self._scheduler.repeatable_steps(run.job) for run in runs)
        if steps > 1 and next_arrival < inf:
            steps = int(min(steps, (next_arrival - now) / float(self._plant.seconds(loads, 1)[0]) + 1))
        ends = ends_of(now, self._plant.seconds(loads, steps))
        last = bisect_left(ends, self._scheduler.next_change)
        for run in runs:
            run.ends = ends[: last + 1]
