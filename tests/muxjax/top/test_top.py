"""`python -m muxjax.top` against real servers."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import override

import grpc
import pytest

from muxjax.serving.frontends.access import AccessControl, Caller, digest
from muxjax.serving.frontends.grpc import convert
from muxjax.serving.frontends.grpc import inference_pb2 as pb
from muxjax.serving.frontends.grpc.inference_pb2_grpc import InferenceServicer, add_InferenceServicer_to_server
from muxjax.serving.progress import LLMState, Progress
from muxjax.serving.unit import UnitStatus
from muxjax.top.__main__ import main
from tests.serving.frontends.echo import Echo, serve
from tests.serving.frontends.ui.units import BUSY, FAILED, ShownUnit, unit_status

ROOT = Path(__file__).parents[3]
SHOWN = unit_status(replace(BUSY, name="echo"), FAILED)


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    with serve(ShownUnit(shown=SHOWN)) as running:
        yield running


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command in this process."""
    code = main([*arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_what_the_server_sends_is_what_the_client_shows() -> None:
    models = [Progress("echo", LLMState.READY), Progress("broken", LLMState.FAILED, error="weights/ is truncated")]
    message = pb.GetStatusResponse.FromString(convert.status(SHOWN, models, 1.0).SerializeToString())
    assert convert.unit_status(message) == SHOWN


def test_once_prints_one_screen(
    echo: Echo, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    code, out, err = run(capsys, "--once", "--address", echo.address)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert f" at {echo.address}  2 ready, 1 loading, 1 failed" in lines[0]
    names = [line.split()[0] for line in lines if line.strip()]
    assert [name for name in names if name in ("echo", "ids", "late", "broken")] == ["echo", "ids", "late", "broken"]
    assert lines[-1] == "broken: weights/ is truncated"
    assert "\x1b" not in out
    assert max(map(len, lines)) <= 100


def test_json_has_the_pages_fields(echo: Echo, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--once", "--json", "--address", echo.address)
    assert code == 0
    overview = json.loads(out)
    assert overview.keys() == {"version", "uptime_seconds", "unit", "history"}
    assert overview["unit"]["llms"][0]["ttft"] == {"p50": 0.089, "p90": 0.161, "p99": 0.357}
    assert overview["history"]["echo"]["running"] == [3]


def test_it_asks_again_every_interval(echo: Echo) -> None:
    command = [sys.executable, "-m", "muxjax.top", "--json", "--interval", "0.1", "--address", echo.address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lengths = [len(json.loads(process.stdout.readline())["history"]["echo"]["running"]) for _ in range(3)]
        assert lengths == [1, 2, 3]
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert process.stderr.read() == ""


def test_no_server(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "--once", "--address", "127.0.0.1:1")
    assert (code, out) == (3, "")
    assert err.startswith("error: no server answers at 127.0.0.1:1: start one with `python -m muxjax.serve`")


def test_a_key_is_needed_and_taken(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    access = AccessControl([(digest("the-key"), Caller("one", models=frozenset({"echo"})))])
    with serve(ShownUnit(shown=SHOWN), access) as echo:
        code, _, err = run(capsys, "--once", "--address", echo.address)
        assert code == 2
        assert "give it as $MUXJAX_API_KEY or --api-key" in err
        monkeypatch.setenv("MUXJAX_API_KEY", "the-key")
        code, out, _ = run(capsys, "--once", "--json", "--address", echo.address)
        assert code == 0
        assert [llm["name"] for llm in json.loads(out)["unit"]["llms"]] == ["echo"]


@dataclass
class Answers(InferenceServicer):
    """Answers GetStatus with what `answer` gives."""

    answer: Callable[[], pb.GetStatusResponse]

    @override
    def GetStatus(self, request: pb.GetStatusRequest, context: grpc.ServicerContext) -> pb.GetStatusResponse:  # type: ignore[override]
        return self.answer()


@contextlib.contextmanager
def grpc_server(servicer: InferenceServicer | None, address: str = "127.0.0.1:0") -> Iterator[str]:
    """A gRPC server at its address, with another service or none."""
    server = grpc.server(ThreadPoolExecutor(1))
    if servicer is not None:
        add_InferenceServicer_to_server(servicer, server)
    port = server.add_insecure_port(address)
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def test_another_server_and_an_old_one_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    with grpc_server(None) as address:
        code, _, err = run(capsys, "--once", "--address", address)
        assert code == 1
        assert err.startswith(f"error: a server answers at {address}, but it does not know muxjax.v1.Inference.")
    with grpc_server(Answers(pb.GetStatusResponse)) as address:
        code, _, err = run(capsys, "--once", "--address", address)
        assert code == 1
        assert "it is older than this command" in err


def message(unit: UnitStatus, uptime: float) -> pb.GetStatusResponse:
    return convert.status(unit, [Progress("echo", LLMState.READY)], uptime)


@dataclass
class Terminal:
    """The command on a terminal of its own."""

    process: subprocess.Popen[bytes]
    master: int

    def wait_for(self, text: str) -> str:
        """Read until the terminal shows it anew; returns all that came."""
        output = ""
        while text not in output:
            output += os.read(self.master, 65_536).decode(errors="replace")
        return output

    def leave(self) -> str:
        """Ctrl-C; returns the last output."""
        self.process.send_signal(signal.SIGINT)
        output = ""
        with contextlib.suppress(OSError):  # how the end of a terminal reads
            while part := os.read(self.master, 65_536):
                output += part.decode(errors="replace")
        assert self.process.wait(10) == 0
        return output


@contextlib.contextmanager
def terminal(address: str, **environment: str) -> Iterator[Terminal]:
    """Started on a terminal; it is killed if the block leaves it running."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "muxjax.top", "--interval", "0.1", "--address", address]
    environment = {**os.environ, "COLUMNS": "90", "LINES": "30", "TERM": "xterm-256color", **environment}
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, cwd=ROOT, env=environment) as process:
        os.close(slave)
        try:
            yield Terminal(process, master)
        finally:
            process.kill()
            os.close(master)


def test_on_a_terminal_it_stays_and_finds_a_server_that_was_started_anew() -> None:
    unit = unit_status(replace(BUSY, name="echo"))
    with contextlib.ExitStack() as first:
        address = first.enter_context(grpc_server(Answers(lambda: message(unit, 100.0))))
        with terminal(address) as shown:
            assert "\x1b[?1049h" in shown.wait_for("up 1 min 40 s")  # a screen of its own
            first.close()
            shown.wait_for("connection lost, trying again")
            with grpc_server(Answers(lambda: message(unit, 5.0)), address):
                shown.wait_for("up 0 min 5 s")
                last = shown.leave()
    assert "\x1b[?1049l" in last
    assert "Traceback" not in last


def test_no_color_means_none() -> None:
    with grpc_server(Answers(lambda: message(SHOWN, 100.0))) as address, terminal(address, NO_COLOR="1") as shown:
        output = shown.wait_for("up 1 min 40 s") + shown.wait_for("SLO")
        assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", output)
        shown.leave()


@pytest.mark.parametrize("arguments", [["--interval", "0"], ["--interval", "nan"], ["--interval", "x"], ["more"]])
def test_a_wrong_command_line(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
