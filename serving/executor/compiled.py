"""Compiled programs by size: the needed ones ahead of time, the others in the background when first wanted."""

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from muxjax.serving.executor.buckets import smallest_bucket
from muxjax.serving.scheduler.job import JobKind

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProgramKey:
    """What a program is compiled for: a decode batch of `size` rows, or a prefill chunk of `size` tokens."""

    kind: JobKind
    size: int


class CompiledPrograms[Program]:
    """One LLM's programs.

    The largest program of each kind is always there, so that no step ever waits for the compiler: until the best
    fitting one is compiled, a larger one runs with more padding.

    Attributes:
        compiled: the programs compiled so far.
    """

    def __init__(
        self,
        compile_program: Callable[[ProgramKey], Program],
        buckets: Mapping[JobKind, tuple[int, ...]],
        background: ThreadPoolExecutor,
    ) -> None:
        """`background` runs compilations that a step asked for; it is the caller's to shut down."""
        self._compile = compile_program
        self._buckets = buckets
        self._background = background
        self.compiled: dict[ProgramKey, Program] = {}
        self._requested: set[ProgramKey] = set()
        self._closed = False

    def needed_keys(self) -> list[ProgramKey]:
        """The programs without which some job could not run: the largest of each kind."""
        return [ProgramKey(kind, sizes[-1]) for kind, sizes in self._buckets.items()]

    def request(self, kind: JobKind, size: int) -> ProgramKey:
        """The best program for so many rows; it is compiled in the background, unless that was asked for before."""
        best = ProgramKey(kind, smallest_bucket(self._buckets[kind], size))
        if best not in self.compiled and best not in self._requested:
            self._requested.add(best)
            self._background.submit(self._compile_in_background, best)
        return best

    def compile(self, key: ProgramKey) -> None:
        """Compile one program now, unless it is there."""
        if key not in self.compiled:
            self.compiled[key] = self._compile(key)

    def find(self, kind: JobKind, size: int) -> tuple[int, Program]:
        """A program for so many rows, and its own size; asks for a better fitting one if there is any."""
        best = self.request(kind, size)
        for bucket in self._buckets[kind]:
            program = self.compiled.get(ProgramKey(kind, bucket))
            if bucket >= best.size and program is not None:
                return bucket, program
        raise LookupError(f"no {kind.value} program for {size} rows is compiled: compile the needed ones first")

    def close(self) -> None:
        """Compile nothing more in the background."""
        self._closed = True

    def _compile_in_background(self, key: ProgramKey) -> None:
        if self._closed:
            return
        try:
            self.compile(key)
        except Exception:
            if self._closed:  # what it is compiled from is gone
                return
            _log.exception("compiling %s failed; larger programs go on serving in its place", key)
