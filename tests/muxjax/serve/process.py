"""A server in a process of its own, followed through the JSON lines that it prints."""

import contextlib
import json
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[3]
Event = dict[str, Any]


@dataclass
class ServerProcess:
    """Attributes:
    process: the server.
    stderr: where its log goes: a file, for a pipe that nobody reads fills.
    events: everything that it said so far.
    """

    process: subprocess.Popen[str]
    stderr: IO[str]
    events: list[Event] = field(default_factory=list)
    _lines: "queue.Queue[str | None]" = field(default_factory=queue.Queue)

    def __post_init__(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()

    def wait_for(self, name: str, seconds: float = 120.0, **fields: object) -> Event:
        """The next event of this name, with these fields."""
        while True:
            line = self._lines.get(timeout=seconds)
            assert line is not None, f"no {name} event: {self.events}\n{self.log()}"
            self.events.append(json.loads(line))
            if self.events[-1]["event"] == name and fields.items() <= self.events[-1].items():
                return self.events[-1]

    def log(self) -> str:
        """What it wrote to standard error so far."""
        self.stderr.seek(0)
        return self.stderr.read()

    def named(self, name: str) -> list[Event]:
        """The events of one name so far."""
        return [event for event in self.events if event["event"] == name]

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)


@contextlib.contextmanager
def serve_process(*arguments: str) -> Iterator[ServerProcess]:
    """Start `python -m muxjax.serve`; it is killed if the block leaves it running."""
    command = [sys.executable, "-m", "muxjax.serve", *arguments]
    with (
        tempfile.TemporaryFile("w+") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=ROOT) as process,
    ):
        try:
            yield ServerProcess(process, stderr)
        finally:
            process.kill()
