"""Where a measurement was made: without it, a figure says nothing."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from muxjax.pallas_kernels.implementation import default_implementation

_PACKAGES = ("jax", "jaxlib", "flax", "numpy")
_VECTOR_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve")


def num_threads() -> int:
    """Cores that this process may use: what XLA uses, and what every other engine is given."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory, device and versions."""
    cpu = _cpu_info()
    flags = cpu.get("flags", cpu.get("Features", "")).split()
    return {
        "cpu": cpu.get("model name", platform.processor() or platform.machine()),
        "cpu_flags": [flag for flag in _VECTOR_FLAGS if flag in flags],
        "cores": num_threads(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "platform": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "attention": default_implementation().name,
        "python": platform.python_version(),
        "versions": {package: version(package) for package in _PACKAGES},
    }


def load_average() -> float:
    """Processes that ran or wanted to, over the last minute: well above this benchmark's own means a busy machine."""
    return os.getloadavg()[0]


def _cpu_info() -> dict[str, str]:
    """The first processor's entry of /proc/cpuinfo; empty where there is no such file."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().split("\n\n")[0].splitlines() if path.exists() else []
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}
