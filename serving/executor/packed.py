"""Programs for all jobs of a step at once: compiled in the background, bounded in number, evicted by use."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from muxjax.serving.scheduler.job import JobKind

MAX_PACKED_PROGRAMS = 32
"""Programs that are kept: steps come in more kinds, but a load in few."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PackedPart:
    """One LLM's jobs in a packed program: rows of its decode and tokens of its prefill, 0 for what it has not."""

    llm: str
    decode: int = 0
    prefill: int = 0

    @property
    def sizes(self) -> dict[JobKind, int]:
        """Of its jobs, in the order in which a program has them."""
        sizes = {JobKind.DECODE: self.decode, JobKind.PREFILL: self.prefill}
        return {kind: size for kind, size in sizes.items() if size}

    def holds(self, other: "PackedPart") -> bool:
        """Whether the other's jobs fit, the decode with more padding; that of a prefill would cost too much."""
        is_alike = (self.llm, self.prefill, self.decode > 0) == (other.llm, other.prefill, other.decode > 0)
        return is_alike and self.decode >= other.decode


type PackedKey = tuple[PackedPart, ...]
"""What a packed program is compiled for, in the order of the LLMs' names."""


class PackedPrograms[Program]:
    """The packed programs of a unit.

    A step whose program is not there runs one job after another meanwhile, so none ever waits for the compiler. One
    program is compiled at a time: by the end another kind of step may be the common one. What does not compile is
    reported once, and not tried again.
    """

    def __init__(
        self,
        compile_program: Callable[[PackedKey], Program],
        background: ThreadPoolExecutor,
        capacity: int = MAX_PACKED_PROGRAMS,
    ) -> None:
        """`background` runs compilations; it is the caller's to shut down."""
        self._compile = compile_program
        self._background = background
        self._capacity = capacity
        self._compiled: OrderedDict[PackedKey, Program] = OrderedDict()  # the least recently used first
        self._forbidden: set[PackedKey] = set()
        self._compiling: PackedKey | None = None
        self._lock = threading.Lock()

    @property
    def keys(self) -> tuple[PackedKey, ...]:
        """What there are programs for, the least recently used first."""
        with self._lock:
            return tuple(self._compiled)

    def find(self, key: PackedKey) -> tuple[PackedKey, Program] | None:
        """The best program for these jobs, and what it was compiled for; asks for a better one if there is any."""
        if self._compiling is None and key not in self._compiled and key not in self._forbidden:
            self._compiling = key
            self._background.submit(self._compile_in_background, key)
        with self._lock:
            if key in self._forbidden:
                return None
            found = min((other for other in self._compiled if _holds(other, key)), key=_num_rows, default=None)
            if found is None:
                return None
            self._compiled.move_to_end(found)
            return found, self._compiled[found]

    def forbid(self, key: PackedKey) -> None:
        """Never run these jobs as one program again."""
        with self._lock:
            self._forbidden.add(key)
            self._compiled.pop(key, None)

    def forget(self, llm: str) -> None:
        """Drop everything about an LLM, which is no longer there."""
        with self._lock:
            for key in [key for key in self._compiled if any(part.llm == llm for part in key)]:
                del self._compiled[key]
            self._forbidden = {key for key in self._forbidden if all(part.llm != llm for part in key)}
            if self._compiling is not None and any(part.llm == llm for part in self._compiling):
                self._compiling = None

    def _compile_in_background(self, key: PackedKey) -> None:
        if self._compiling != key:  # one of its LLMs is gone
            return
        try:
            program = self._compile(key)
        except Exception:
            with self._lock:
                if self._compiling != key:
                    return
                self._forbidden.add(key)
                self._compiling = None
            _log.exception("a packed program does not compile, such steps run one job after another: %s", _shown(key))
            return
        with self._lock:
            if self._compiling != key:
                return
            self._compiling = None
            self._compiled[key] = program
            if len(self._compiled) > self._capacity:
                self._compiled.popitem(last=False)


def _holds(key: PackedKey, other: PackedKey) -> bool:
    return len(key) == len(other) and all(mine.holds(theirs) for mine, theirs in zip(key, other, strict=True))


def _num_rows(key: PackedKey) -> int:
    return sum(part.decode + part.prefill for part in key)


def _shown(key: PackedKey) -> str:
    return ", ".join(f"{part.llm} {kind.value} {size}" for part in key for kind, size in part.sizes.items())
