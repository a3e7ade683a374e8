"""Compiled programs kept on disk, so that the next start need not compile them again."""

import logging
from pathlib import Path

import jax

_log = logging.getLogger(__name__)


def keep_compiled_programs(folder: Path) -> None:
    """Use a folder as JAX's persistent compilation cache; where it cannot be written, say so and go on without."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        _log.warning("compiled programs are not kept: %s cannot be made (%s)", folder, error.strerror)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # many small programs add up
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
