"""A timeline of jobs and requests in Chrome's trace event format, which Perfetto (https://ui.perfetto.dev) opens.

Each LLM has a track for its prefills and one for its decodes, and a counter of its head blocks; each completion is an
asynchronous span with its queueing, prefill and decode inside.
"""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

from muxjax.serving.completion import Completion
from muxjax.serving.request import FinishReason
from muxjax.serving.scheduler.job import Job, JobKind

MAX_BYTES = 256 << 20
"""Size at which a file is put aside as FILE.1, over the one before, and begun anew."""

_FLUSH_BYTES = 1 << 16
_FLUSH_SECONDS = 1.0
_PID = 1


class TraceWriter:
    """Writes whole lines only: a file whose writer was killed lacks but the last second and the closing bracket.

    It belongs to one thread. Times are seconds of `time.monotonic`.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        """Raises OSError if the file cannot be written."""
        self._path = path
        self._max_bytes = max_bytes
        self._tracks: dict[tuple[str, JobKind], int] = {}
        self._flushed_at = time.monotonic()
        self._begin()

    def job(self, job: Job, started: float, ended: float) -> None:
        """A job that kept the device from `started` to `ended`."""
        track = self._tracks.get((job.llm, job.kind)) or self._new_track(job)
        arguments = {"sequences": len(job.chunks), "tokens": job.num_tokens}
        span = {"ts": _micros(started), "dur": _micros(ended - started), "args": arguments}
        self._write({"name": f"{job.llm} {job.kind.value}", "ph": "X", "pid": _PID, "tid": track, **span})

    def blocks(self, used: Mapping[str, int], now: float) -> None:
        """The head blocks that the LLMs hold."""
        self._write({"name": "head blocks", "ph": "C", "pid": _PID, "ts": _micros(now), "args": dict(used)})

    def completion(self, completion: Completion, reason: FinishReason, ended: float) -> None:
        """A completion is over."""
        timing = completion.timing
        id_ = f"{completion.request.id}/{completion.index}"
        arguments = {
            "model": completion.request.llm,
            "prompt_tokens": len(completion.request.prompt_token_ids),
            "tokens": completion.num_generated,
            "reason": reason.value,
            "preemptions": completion.sequence.preemptions,
        }
        started, first = timing.started or ended, timing.first_token or ended
        self._span(completion.request.llm, id_, timing.arrival, ended, arguments)
        for name, begin, end in (
            ("queue", timing.arrival, started),
            ("prefill", started, first),
            ("decode", first, ended),
        ):
            if end > begin:
                self._span(name, id_, begin, end, {})

    def flush(self) -> None:
        """Write what waits."""
        if self._lines:
            data = "".join(self._lines).encode()
            self._lines.clear()
            self._waiting = 0
            self._size += os.write(self._file, data)
        self._flushed_at = time.monotonic()

    def close(self) -> None:
        """Write what waits, and the end."""
        self.flush()
        self._finish()

    def _begin(self) -> None:
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        self._lines = ["[\n"]
        self._waiting = self._size = 0
        self._tracks.clear()
        self._write({"name": "process_name", "ph": "M", "pid": _PID, "args": {"name": "muxjax"}})
        self.flush()

    def _finish(self) -> None:
        os.write(self._file, b'{"name": "end", "ph": "M", "pid": 1, "args": {}}\n]\n')
        os.close(self._file)

    def _new_track(self, job: Job) -> int:
        track = self._tracks[job.llm, job.kind] = len(self._tracks) + 1
        name = {"name": f"{job.llm} {job.kind.value}"}
        self._write({"name": "thread_name", "ph": "M", "pid": _PID, "tid": track, "args": name})
        return track

    def _span(self, name: str, id_: str, begin: float, end: float, arguments: Mapping[str, object]) -> None:
        common = {"name": name, "cat": "request", "id": id_, "pid": _PID, "tid": 0}
        self._write({**common, "ph": "b", "ts": _micros(begin), "args": arguments})
        self._write({**common, "ph": "e", "ts": _micros(end)})

    def _write(self, event: Mapping[str, object]) -> None:
        line = f"{json.dumps(event)},\n"
        self._lines.append(line)
        self._waiting += len(line)
        if self._waiting >= _FLUSH_BYTES or time.monotonic() - self._flushed_at > _FLUSH_SECONDS:
            self.flush()
            if self._size > self._max_bytes:
                self._finish()
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))
                self._begin()


def _micros(seconds: float) -> float:
    return round(seconds * 1e6, 1)
