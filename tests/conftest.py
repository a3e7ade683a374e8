"""What all tests share."""

from pathlib import Path

import jax
import pytest


@pytest.fixture(scope="session", autouse=True)
def compile_cache(pytestconfig: pytest.Config) -> None:
    """Programs that several tests compile are compiled once, and once for several runs."""
    directory = Path(pytestconfig.rootpath, ".pytest_cache", "xla")
    jax.config.update("jax_compilation_cache_dir", str(directory))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
