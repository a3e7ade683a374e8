"""What people see on a terminal, and what machines read elsewhere."""

import io
import json

import pytest
from rich.console import Console

from muxjax.serve.display import Addresses, JsonDisplay, TerminalDisplay
from muxjax.serving.progress import LLMState, Progress


def tell(display: JsonDisplay | TerminalDisplay) -> None:
    """A start in which one of two models fails."""
    display.start(Addresses(grpc="127.0.0.1:1", http="127.0.0.1:2"), ["code", "prose"])
    display.phase("attention", "cpu: C kernels")
    display.update(Progress("code", LLMState.LOADING))
    display.update(Progress("code", LLMState.COMPILING, 3, 8, 1.25))
    display.update(Progress("code", LLMState.READY, 8, 8, 2.5))
    display.update(Progress("prose", LLMState.FAILED, seconds=0.5, error="weights [x] are missing"))
    display.serving(["code"], 3.0, "closing words")
    display.stopping(2)
    display.stopped()


def test_a_terminal_gets_a_bar_for_each_model_then_words() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    tell(TerminalDisplay(console))
    assert isinstance(console.file, io.StringIO)
    out = console.file.getvalue()
    assert out.startswith("muxjax listens on 127.0.0.1:1 (gRPC) and http://127.0.0.1:2\n")
    assert "attention: cpu: C kernels" in out
    assert "ready in 2.5 s" in out
    assert "prose: weights [x] are missing" in out
    assert out.index("ready in 2.5 s") < out.index("closing words")
    assert "stopping: 2 requests finish first; once more stops at once" in out
    assert out.rstrip().endswith("stopped")


def test_elsewhere_each_event_is_a_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    tell(JsonDisplay())
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(event.pop("time") > 0 for event in events)
    assert events == [
        {"event": "start", "address": "127.0.0.1:1", "http_address": "127.0.0.1:2", "models": ["code", "prose"]},
        {"event": "phase", "name": "attention", "detail": "cpu: C kernels"},
        {"event": "loading", "model": "code", "seconds": 0.0},
        {"event": "compiling", "model": "code", "done": 3, "total": 8, "seconds": 1.25},
        {"event": "ready", "model": "code", "done": 8, "total": 8, "seconds": 2.5},
        {"event": "failed", "model": "prose", "seconds": 0.5, "error": "weights [x] are missing"},
        {"event": "serving", "models": ["code"], "seconds": 3.0},
        {"event": "stopping", "requests": 2},
        {"event": "stopped"},
    ]
