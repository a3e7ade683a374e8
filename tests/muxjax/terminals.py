"""Commands run with a terminal, or a pipe, as their standard error."""

import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Thread

ROOT = Path(__file__).parents[2]


def said_on_a_terminal(module: str, arguments: Sequence[object]) -> str:
    """What `python -m MODULE` shows on a terminal of standard error; it must succeed."""
    ours, theirs = pty.openpty()
    shown: list[bytes] = []
    reader = Thread(target=_read_all, args=(ours, shown))
    reader.start()
    try:
        subprocess.run(_command(module, arguments), cwd=ROOT, env=_environment(), stdout=subprocess.DEVNULL,
                       stderr=theirs, check=True)  # fmt: skip
    finally:
        os.close(theirs)
        reader.join()
        os.close(ours)
    return b"".join(shown).decode()


def said_into_a_pipe(module: str, arguments: Sequence[object]) -> str:
    """The same where standard error is a pipe."""
    run = subprocess.run(_command(module, arguments), cwd=ROOT, env=_environment(), capture_output=True, text=True,
                         check=True)  # fmt: skip
    return run.stderr


def _command(module: str, arguments: Sequence[object]) -> list[str]:
    return [sys.executable, "-m", module, *map(str, arguments)]


def _environment() -> dict[str, str]:
    """A terminal as people have it, whatever the tests run in."""
    without = {"NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"}
    return {name: value for name, value in os.environ.items() if name not in without} | {"TERM": "xterm-256color"}


def _read_all(terminal: int, shown: list[bytes]) -> None:
    """Until nobody has the other end."""
    try:
        while part := os.read(terminal, 65536):
            shown.append(part)
    except OSError:  # Linux says so that the other end is closed
        pass
