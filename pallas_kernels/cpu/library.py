"""Loads the compiled kernels and makes them known to XLA."""

import ctypes
import functools
import threading
from dataclasses import dataclass

import jax

from muxjax.pallas_kernels.cpu.build import BuildError, build, cache_directory, find_compiler, source_digest

KERNELS = ("attention", "int8_matmul", "pool_write")
_loading = threading.Lock()


@dataclass(frozen=True, slots=True)
class NativeKernels:
    """Whether the C kernels can be called.

    Attributes:
        available: they are compiled, loaded and known to XLA.
        detail: one line for people: what they were compiled with, or why they are not there.
    """

    available: bool
    detail: str


def native_kernels() -> NativeKernels:
    """Compiles, loads and registers the kernels at the first call; never raises."""
    with _loading:
        return _load()


def target_name(kernel: str) -> str:
    """The kernel's name in XLA programs: new for new sources, so that no cached program calls a kernel it misreads."""
    return f"muxjax_{kernel}_{source_digest()}"


@functools.cache
def _load() -> NativeKernels:
    try:
        library = ctypes.CDLL(str(build(cache_directory())))
        for kernel in KERNELS:
            handler = jax.ffi.pycapsule(getattr(library, f"muxjax_{kernel}"))
            jax.ffi.register_ffi_target(target_name(kernel), handler, platform="cpu")
    except (BuildError, OSError, RuntimeError) as error:
        return NativeKernels(False, f"no C kernels: {error}")
    return NativeKernels(True, f"C kernels compiled for this CPU by {find_compiler()}")
