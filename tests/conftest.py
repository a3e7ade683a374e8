"""What all tests share."""

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

# Mosaic's interpreter holds one of XLA's threads for each warpgroup, and one for the program around the kernel; on two
# cores XLA has two. XLA reads this when it first runs something.
os.environ.setdefault("NPROC", str(max(4, os.cpu_count() or 1)))


@pytest.fixture(scope="session", autouse=True)
def compile_cache(pytestconfig: pytest.Config) -> None:
    """Programs that several tests compile are compiled once, and once for several runs."""
    directory = Path(pytestconfig.rootpath, ".pytest_cache", "xla")
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Shells start background jobs with SIGINT ignored, which children inherit: Ctrl-C could not be tested there."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module", autouse=True)
def released_programs() -> Iterator[None]:
    """Every program for the CPU takes some mappings of memory, of which Linux gives a process 65,530."""
    yield
    gc.collect()
    jax.clear_caches()
