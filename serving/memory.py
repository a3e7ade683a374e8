"""How much memory a unit's pool may take, before any weight is loaded."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from muxjax.models.errors import ModelError
from muxjax.models.load import LoadedModel, load_config, load_shapes, weight_bytes
from muxjax.models.spread import make_mesh
from muxjax.serving.executor.llm_runtime import LLMRuntime
from muxjax.serving.executor.spmd import POOL
from muxjax.serving.plan import PlanError
from muxjax.serving.pool import Pool
from muxjax.serving.spec import LLMSpec, UnitSpec

_UNUSED = 0.05  # of the device: what the allocator cannot use, command buffers, and what steps in flight hand over
_MEASURED_PAGES = 2  # of the pools that programs are measured on: their size changes nothing


def device_bytes(device: jax.Device) -> int:
    """Memory of a device that this process may take; of a CPU, the machine's."""
    stats = device.memory_stats()
    return int(stats["bytes_limit"]) if stats else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def fit_pool(spec: UnitSpec, devices: Sequence[jax.Device], total: int | None = None) -> UnitSpec:
    """The unit with a pool that fits beside its weights: of the size that is given, or as large as can be.

    Args:
        spec: a pool of 0 blocks is to be sized. The LLMs' largest programs are compiled to see what they need.
        devices: over which it will be spread.
        total: memory of each in bytes, if it is not all that it has.

    Raises:
        PlanError: it does not fit.
    """
    total = min(map(device_bytes, devices)) if total is None else total
    is_sized = spec.pool.num_blocks > 0
    try:
        weights = sum(_weights(llm, len(devices)) for llm in spec.llms)
        programs = 0 if is_sized else program_bytes(spec, devices[0])
    except (ModelError, ValueError):  # which planning reports, with all else that is wrong
        return replace(spec, pool=replace(spec.pool, num_blocks=spec.pool.num_blocks or 2))
    if is_sized:
        needed = spec.pool.num_blocks * spec.pool.block_bytes
        if weights + needed > total:
            raise PlanError(
                f"pool: its {_shown(needed)} and the weights' {_shown(weights)} do not fit into the device's "
                f"{_shown(total)}: lower pool.memory, or serve fewer models"
            )
        return spec
    left = int((1 - _UNUSED) * total) - weights - programs
    if left < 2 * spec.pool.block_bytes:
        raise PlanError(
            f"pool: the weights' {_shown(weights)} and the programs' {_shown(programs)} leave nothing of the device's "
            f"{_shown(total)}: serve fewer models, or lower scheduler.max_prefill_tokens"
        )
    return replace(spec, pool=replace(spec.pool, num_blocks=left // spec.pool.block_bytes))


def _weights(llm: LLMSpec, devices: int) -> int:
    return weight_bytes(llm.source, dtype=llm.dtype, quantization=llm.quantization, devices=devices)


def program_bytes(spec: UnitSpec, device: jax.Device) -> int:
    """Memory that a unit's programs take beside weights and pool: what its sequences' slots hold, and what the largest
    program has for itself while it runs. Where it is spread over several devices, each needs less.

    Raises ModelError.
    """
    slots, temporary = zip(*(_measure(llm, spec, device) for llm in spec.llms), strict=True)
    together = max if spec.scheduling.overlap == "interleaved" else sum
    return sum(slots) + together(temporary)


def _measure(llm: LLMSpec, spec: UnitSpec, device: jax.Device) -> tuple[int, int]:
    """Bytes of an LLM's slots, and of its largest program's results and temporary arrays."""
    config = load_config(llm.source)
    books = Pool(1 + _MEASURED_PAGES * config.num_layers * config.num_kv_heads, spec.pool.block_elements)
    books.add_llm(llm.name, config.num_layers, config.num_kv_heads, config.head_dim)
    mesh = make_mesh([device])
    decoder = load_shapes(llm.source, dtype=jnp.dtype(llm.dtype), quantization=llm.quantization, mesh=mesh)
    shape = (books.num_blocks, 2, spec.pool.block_tokens, spec.pool.lane)
    with ThreadPoolExecutor(1) as background:
        runtime = LLMRuntime(
            llm,
            LoadedModel(config, decoder, None, ()),
            books,
            jax.ShapeDtypeStruct(shape, jnp.dtype(spec.pool.dtype), sharding=NamedSharding(mesh, POOL)),
            max_context=llm.max_context or config.max_context,
            max_prefill_tokens=spec.scheduling.max_prefill_tokens,
            background=background,
            mesh=mesh,
        )
        for _ in runtime.compile_needed(background):
            pass
    return runtime.slot_bytes, max(program.own_bytes for program in runtime.programs.values())


def _shown(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
