"""How long jobs take, learned from those that ran."""

from collections.abc import Sequence
from dataclasses import dataclass

from muxjax.serving.scheduler.job import Job, JobKind

_FORGETTING = 0.95  # what an older job counts for each newer one: some twenty jobs are remembered


@dataclass(slots=True)
class _Line:
    """seconds = fixed + slope * size, fitted to recent jobs by least squares, with weights that fade.

    Neither part is negative: more work takes no less time, and no work takes no negative one.
    """

    weight: float = 0.0
    size: float = 0.0  # weighted means
    seconds: float = 0.0
    size_variance: float = 0.0
    covariance: float = 0.0

    def add(self, size: float, seconds: float) -> None:
        """One job more (Welford's update, with forgetting)."""
        self.weight = _FORGETTING * self.weight + 1
        part = 1 / self.weight
        size_step, seconds_step = size - self.size, seconds - self.seconds
        self.size += part * size_step
        self.seconds += part * seconds_step
        self.size_variance = (1 - part) * (self.size_variance + part * size_step * size_step)
        self.covariance = (1 - part) * (self.covariance + part * size_step * seconds_step)

    def at(self, size: float) -> float:
        """Where all jobs had one size, others are taken to cost in proportion."""
        steepest = self.seconds / self.size
        slope = steepest
        if self.size_variance > 1e-6 * self.size * self.size:
            slope = min(max(self.covariance / self.size_variance, 0.0), steepest)
        return self.seconds + slope * (size - self.size)


class JobTimes:
    """Seconds of each LLM's prefills, by their tokens, and of its decodes, by their sequences."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, JobKind], _Line] = {}

    def seconds(self, llm: str, kind: JobKind, size: int) -> float | None:
        """Of a job of this size; None if none of its kind ran yet."""
        line = self._lines.get((llm, kind))
        return None if line is None else line.at(size)

    def learn(self, jobs: Sequence[Job], seconds: float) -> list[float]:
        """Note jobs that kept the device for so long together; returns the part of each.

        What jobs of one program took is divided as their own estimates are, or evenly while some have none.
        """
        expected = [self.seconds(job.llm, job.kind, job.num_tokens) for job in jobs]
        known = [value for value in expected if value]
        if len(known) == len(jobs):
            parts = [seconds * value / sum(known) for value in known]
        else:
            parts = [seconds / len(jobs)] * len(jobs)
        for job, part in zip(jobs, parts, strict=True):
            self._lines.setdefault((job.llm, job.kind), _Line()).add(job.num_tokens, part)
        return parts

    def forget(self, llm: str) -> None:
        """Nothing of an LLM that has gone is kept."""
        for kind in JobKind:
            self._lines.pop((llm, kind), None)
