"""Cases of a benchmark in processes of their own: what crashes or hangs costs no other case its figures."""

import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any

Labels = Mapping[str, str | int | float]
Outcome = dict[str, Any]
"""A case's labels, and its figures or why there are none, as `error`."""


@dataclass(frozen=True, slots=True)
class Case:
    """One measurement.

    Attributes:
        labels: what is measured, for the tables.
        measure: makes the figures; any exception is an outcome.
    """

    labels: Labels
    measure: Callable[[], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Section:
    """Cases that belong together.

    Attributes:
        name: of the section in the results.
        cases: makes them, in the process in which they run; those that matter most first.
        seconds: that all of them may take, the start of a process included.
    """

    name: str
    cases: Callable[[], Iterable[Case]]
    seconds: float


def run_here(section: Section) -> Iterator[Outcome]:
    """The outcomes of all cases, in this process."""
    for case in section.cases():
        yield {**case.labels, **_figures(case)[0]}


def run_isolated(section: Section, *, case_seconds: float) -> Iterator[Outcome]:
    """The outcomes of the cases that there is time for, from as many processes as it takes.

    After a crash, a hang or an error of the device another process goes on with the next case.
    """
    deadline = time.monotonic() + section.seconds
    done, is_finished = 0, False
    while not is_finished:
        child = _Child(section, done)
        for outcome in child.outcomes(deadline, case_seconds):
            done += 1
            yield outcome
        is_finished = child.is_finished


class _Child:
    """A process that runs the cases from some case on."""

    def __init__(self, section: Section, first: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._receiver, sender = context.Pipe(duplex=False)
        self._process = context.Process(target=_run_cases, args=(section, first, sender), daemon=True)
        self._process.start()
        sender.close()  # so that its end is seen
        self.is_finished = False

    def outcomes(self, deadline: float, case_seconds: float) -> Iterator[Outcome]:
        """What it reports, and what became of it in the end."""
        labels: Labels | None = None
        while not self.is_finished:
            now = time.monotonic()
            limit = min(deadline, now + case_seconds)
            if not self._receiver.poll(max(limit - now, 0)):
                self.is_finished = limit == deadline
                words = "there was no time left" if self.is_finished else f"took more than {case_seconds:g} s"
                yield {**(labels or {}), "error": words}
                break
            try:
                kind, content = self._receiver.recv()
            except EOFError:
                self._process.join()
                self.is_finished = labels is None  # it would end again
                yield {**(labels or {}), "error": f"its process ended with exit code {self._process.exitcode}"}
                break
            if kind == "finished":
                self.is_finished = True
            elif kind == "begun":
                labels = content
            else:
                yield {**(labels or {}), **content}
                labels = None
                if kind == "broken":
                    break
        self._process.kill()
        self._process.join()


def _run_cases(section: Section, first: int, sender: Connection) -> None:
    for case in islice(section.cases(), first, None):
        sender.send(("begun", case.labels))
        figures, is_broken = _figures(case)
        sender.send(("broken" if is_broken else "ended", figures))
    sender.send(("finished", None))


def _figures(case: Case) -> tuple[Outcome, bool]:
    """A case's figures or its error, and whether the device may be unusable after it."""
    try:
        return dict(case.measure()), False
    except Exception as error:
        words = str(error).strip().splitlines()
        message = f"{type(error).__name__}: {words[0] if words else ''}"[:300]
        return {"error": message}, type(error).__name__ == "JaxRuntimeError"
