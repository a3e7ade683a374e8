"""How the server tells its progress: drawn on a terminal, JSON lines elsewhere."""

import json
import sys
import time
from dataclasses import dataclass
from typing import Protocol

import rich.progress
from rich.console import Console

from muxjax.serving.progress import LLMState, Progress

_STYLES = {LLMState.READY: "green", LLMState.FAILED: "red", LLMState.STALLED: "red"}


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the server listens, each as host:port."""

    grpc: str
    http: str | None
    encrypted: bool = False
    admin: str | None = None

    @property
    def url(self) -> str | None:
        """The HTTP server's, if there is one."""
        return None if self.http is None else f"{'https' if self.encrypted else 'http'}://{self.http}"

    def __str__(self) -> str:
        return self.grpc if self.url is None else f"{self.grpc} (gRPC) and {self.url}"


class Display(Protocol):
    """Hears of everything that people wait for."""

    def start(self, addresses: Addresses, models: list[str]) -> None:
        """The ports are open, and loading begins."""

    def phase(self, name: str, detail: str) -> None:
        """Something that is not about one LLM is done."""

    def update(self, progress: Progress) -> None:
        """One LLM's news."""

    def serving(self, models: list[str], seconds: float, closing: str) -> None:
        """All LLMs are ready, or failed; `closing` says how to use those that are ready."""

    def stopping(self, requests: int) -> None:
        """Asked to stop, while so many requests run."""

    def stopped(self) -> None:
        """Nothing runs any more."""


def make_display() -> Display:
    """The one that fits standard output."""
    return TerminalDisplay(Console()) if sys.stdout.isatty() else JsonDisplay()


class JsonDisplay:
    """One JSON object a line: `event`, `time` (seconds since 1970), and what belongs to the event."""

    def start(self, addresses: Addresses, models: list[str]) -> None:
        admin = {} if addresses.admin is None else {"admin_address": addresses.admin}
        self._print("start", address=addresses.grpc, http_address=addresses.http, models=models, **admin)

    def phase(self, name: str, detail: str) -> None:
        self._print("phase", name=name, detail=detail)

    def update(self, progress: Progress) -> None:
        fields: dict[str, object] = {"model": progress.llm, "seconds": round(progress.seconds, 3)}
        if progress.total:
            fields |= {"done": progress.done, "total": progress.total}
        if progress.error is not None:
            fields["error"] = progress.error
        self._print(progress.state.value, **fields)

    def serving(self, models: list[str], seconds: float, closing: str) -> None:
        self._print("serving", models=models, seconds=round(seconds, 3))

    def stopping(self, requests: int) -> None:
        self._print("stopping", requests=requests)

    def stopped(self) -> None:
        self._print("stopped")

    def _print(self, event: str, **fields: object) -> None:
        print(json.dumps({"event": event, "time": round(time.time(), 3), **fields}), flush=True)


class TerminalDisplay:
    """A bar for each LLM while it loads and compiles, then words."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(bar_width=30),
            rich.progress.TextColumn("{task.fields[words]}"),
            console=console,
        )
        self._tasks: dict[str, rich.progress.TaskID] = {}

    def start(self, addresses: Addresses, models: list[str]) -> None:
        self._console.print(f"muxjax listens on {addresses}", highlight=False)
        width = max(map(len, models))
        self._tasks = {name: self._bars.add_task(name.ljust(width), total=1, words="waits") for name in models}
        self._bars.start()

    def phase(self, name: str, detail: str) -> None:
        self._console.print(f"{name}: {detail}", highlight=False)

    def update(self, progress: Progress) -> None:
        words = {
            LLMState.LOADING: "loads",
            LLMState.COMPILING: f"compiles {progress.done}/{progress.total}",
            LLMState.READY: f"ready in {progress.seconds:.1f} s",
            LLMState.FAILED: "failed",
            LLMState.STALLED: "stalled",
            LLMState.DRAINING: "draining",
            LLMState.UNLOADED: "unloaded",
        }[progress.state]
        style = _STYLES.get(progress.state, "default")
        done = progress.total or 1 if progress.state is LLMState.READY else progress.done
        if progress.llm not in self._tasks:  # it came later
            self._console.print(f"{progress.llm}: [{style}]{words}[/]", highlight=False)
            return
        self._bars.update(
            self._tasks[progress.llm], completed=done, total=progress.total or 1, words=f"[{style}]{words}[/]"
        )
        if progress.error is not None:
            self._console.print(f"{progress.llm}: {progress.error}", style="red", markup=False, highlight=False)

    def serving(self, models: list[str], seconds: float, closing: str) -> None:
        self._bars.stop()
        self._console.print(f"\n{closing}", highlight=False, markup=False, soft_wrap=True)

    def stopping(self, requests: int) -> None:
        self._bars.stop()
        running = f"{requests} requests finish first" if requests else "nothing runs"
        self._console.print(f"\nstopping: {running}; once more stops at once", highlight=False)

    def stopped(self) -> None:
        self._bars.stop()
        self._console.print("stopped")
