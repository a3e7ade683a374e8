"""Compiles the C kernels with the machine's own compiler, once per machine and version."""

import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import jax

SOURCE_DIRECTORY = Path(__file__).parent
COMPILERS = ("cc", "gcc", "clang")
# -ffp-contract lets a * b + c be one rounding, as it is by default in GNU C but not with every compiler.
FLAGS = ("-std=gnu11", "-O2", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC", "-pthread")
TIMEOUT_SECONDS = 300


class BuildError(Exception):
    """The kernels could not be compiled; the message says why in one line."""


def cache_directory() -> Path:
    """Where compiled kernels are kept: `muxjax` in XDG_CACHE_HOME, by default ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "muxjax"


def build(directory: Path) -> Path:
    """Returns the kernels' shared library, compiled into the directory unless it is there already.

    The file's name is a digest of all that it depends on: sources, XLA's header, compiler, flags and the CPU's own
    features. It appears complete or not at all, so that processes may build it at the same time.

    Raises:
        BuildError: no compiler, the compiler failed, or the directory cannot be written.
    """
    compiler = find_compiler()
    library = directory / f"kernels-{_digest(compiler)}.so"
    if library.exists():
        return library
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            compiled = Path(scratch) / library.name
            _compile(compiler, compiled)
            compiled.replace(library)
    except OSError as error:
        raise BuildError(f"cannot write {directory}: {error}; set XDG_CACHE_HOME to a directory that can be") from error
    return library


def find_compiler() -> str:
    """The path of the first C compiler there is. Raises BuildError."""
    for name in COMPILERS:
        if path := shutil.which(name):
            return path
    raise BuildError(f"no C compiler found (tried {', '.join(COMPILERS)})")


@functools.cache
def source_digest() -> str:
    """Changes whenever the kernels' sources or XLA's header do."""
    digest = hashlib.sha256()
    header = Path(jax.ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h"
    for path in (*sorted(SOURCE_DIRECTORY.glob("*.[ch]")), header):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _digest(compiler: str) -> str:
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False, timeout=60).stdout
    facts = (source_digest(), compiler, version, *FLAGS, platform.machine(), _cpu_features())
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:16]


def _cpu_features() -> str:
    """What -march=native depends on, so that machines that share a home directory do not share a library."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())


def _compile(compiler: str, library: Path) -> None:
    sources = [str(path) for path in sorted(SOURCE_DIRECTORY.glob("*.c"))]
    command = [compiler, *FLAGS, "-I", jax.ffi.include_dir(), *sources, "-o", str(library), "-lm"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{compiler} did not finish in {TIMEOUT_SECONDS} s") from error
    if run.returncode != 0:
        messages = run.stderr.splitlines()
        first_error = next((line for line in messages if "error:" in line), f"exit status {run.returncode}")
        raise BuildError(f"{compiler} failed: {first_error}")
