"""Other people's programs, unmodified, each in an environment of its own: `make clients` makes them."""

import ctypes.util
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def environment(name: str) -> Path:
    """Where a client is installed; the test is skipped where it is not."""
    folder = ROOT / ".venv-clients" / name
    if not (folder / ".installed").exists():
        pytest.skip(f"{folder.relative_to(ROOT)} is absent: `make clients` and `make more-clients` make them")
    return folder


def output_of(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    stdin: str = "",
    variables: Mapping[str, str] | None = None,
) -> str:
    """What a program printed; it must end well, and soon."""
    ended = subprocess.run(
        command,
        input=stdin,
        cwd=cwd,
        env={**os.environ, **(variables or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def perf_analyzer_variables() -> dict[str, str]:
    """With which `perf_analyzer` is found, and finds what it is linked to; the test is skipped where that is absent."""
    folder = environment("perf-analyzer")
    if ctypes.util.find_library("b64") is None:
        pytest.skip("perf_analyzer needs the system's libb64 (Debian: libb64-0d)")
    cuda = next(folder.glob("lib/python3.12/site-packages/nvidia/cuda_runtime/lib"))
    return {"LD_LIBRARY_PATH": str(cuda), "PATH": os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])}
