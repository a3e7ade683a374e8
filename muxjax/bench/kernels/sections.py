"""What is measured, in which order, and for how long: under six minutes in all."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import jax

from muxjax.bench.isolated import Case, Section
from muxjax.bench.kernels import ceilings, decode, grouped, prefill, torch_attention, tuning, upstream, write
from muxjax.bench.kernels.scale import Scale
from muxjax.pallas_kernels.grouped_matmul import api as grouped_matmul
from muxjax.pallas_kernels.implementation import Implementation
from muxjax.pallas_kernels.paged_decode import api as paged_decode
from muxjax.pallas_kernels.pool_write import api as pool_write
from muxjax.pallas_kernels.ragged_prefill import api as ragged_prefill


def gpu_implementations(implementations: Iterable[Implementation]) -> tuple[Implementation, ...]:
    """Those that were written for GPUs."""
    return tuple(name for name in ("mosaic", "triton") if name in implementations)


_OPERATIONS = {
    "paged_decode": (decode, gpu_implementations(paged_decode.IMPLEMENTATIONS)),
    "ragged_prefill": (prefill, gpu_implementations(ragged_prefill.IMPLEMENTATIONS)),
    "pool_write": (write, gpu_implementations(pool_write.IMPLEMENTATIONS)),
    "grouped_matmul": (grouped, gpu_implementations(grouped_matmul.IMPLEMENTATIONS)),
}
_SECONDS = {"paged_decode": 38, "ragged_prefill": 25, "pool_write": 12, "grouped_matmul": 16}
_POOL_SHARE = 0.3  # of the device's memory: rivals have their own layouts, twice what they read at worst


def sections(scale: Scale) -> list[list[Section]]:
    """Those of one list may run at the same time: limits, what is right, what is fast, rivals, what might be faster."""

    def section(name: str, seconds: float, cases: Callable[..., Iterable[Case]], *arguments: Any) -> Section:
        return Section(name, partial(_on_device, cases, scale, *arguments), seconds)

    checks = [
        section(f"{operation} {name}, checked", 55, module.checks, name)
        for operation, (module, implementations) in _OPERATIONS.items()
        for name in implementations
    ]
    timings = [
        section(f"{operation} {name}", _SECONDS[operation], module.timings, name)
        for operation, (module, implementations) in _OPERATIONS.items()
        for name in implementations
    ]
    rivals = [
        section("cuDNN", 15, prefill.cudnn_cases),
        section("XLA", 14, grouped.timings, "xla"),
        section("upstream", 26, upstream.cases),
        Section("torch", partial(torch_attention.cases, scale), 25),
    ]
    after = [*timings, *rivals, section("tuning", 37, tuning.cases)]
    return [[section("ceilings", 20, ceilings.cases)], checks, *([alone] for alone in after)]


def _on_device(cases: Callable[..., Iterable[Case]], scale: Scale, *arguments: Any) -> Iterable[Case]:
    """The cases with a pool that leaves room on this device."""
    memory = (jax.devices()[0].memory_stats() or {}).get("bytes_limit")
    pool_bytes = scale.pool_bytes if memory is None else min(scale.pool_bytes, int(memory * _POOL_SHARE))
    return cases(replace(scale, pool_bytes=pool_bytes), *arguments)
