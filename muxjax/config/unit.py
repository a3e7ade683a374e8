"""What the engine needs to know of a configuration, with the defaults that depend on the device."""

import importlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import jax

from muxjax.config.schema import Config, PoolConfig
from muxjax.serving.plan import PlanError
from muxjax.serving.spec import SLO, LLMSpec, PoolSpec, SchedulingSpec, UnitSpec

_CPU_POOL_BYTES = 512 << 20


def unit_spec(config: Config) -> UnitSpec:
    """The unit of all configured LLMs; their architectures are known from now on.

    Raises:
        PlanError: a module with architectures cannot be imported.
    """
    _import_architectures(config)
    dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return UnitSpec(
        llms=tuple(
            LLMSpec(
                name=name,
                source=llm.source,
                dtype=llm.dtype or dtype,
                quantization=llm.quantization,
                rate=llm.rate,
                max_context=llm.max_context,
                max_sequences=llm.max_sequences,
                max_waiting=llm.max_waiting,
                slo=SLO(**llm.slo.model_dump()) if llm.slo is not None else None,
            )
            for name, llm in config.llms.items()
        ),
        pool=_pool_spec(config.pool, config.pool.dtype or dtype),
        scheduling=SchedulingSpec(**config.scheduler.model_dump()),
        tensor_parallel=config.tensor_parallel,
    )


def first_devices(spec: UnitSpec) -> tuple[jax.Device, ...]:
    """As many as the unit is spread over. Raises PlanError where there are not so many, or they differ."""
    try:
        return find_devices(range(spec.tensor_parallel))
    except PlanError as error:
        raise PlanError(f"tensor_parallel: is {spec.tensor_parallel}, but {error}") from None


def find_devices(numbers: Sequence[int]) -> tuple[jax.Device, ...]:
    """This machine's devices with these numbers, for one unit. Raises PlanError where some are not there, or differ."""
    available = jax.local_devices()
    if missing := [str(number) for number in numbers if number >= len(available)]:
        raise PlanError(f"there is no device {' and no device '.join(missing)}; this machine has {len(available)}")
    devices = tuple(available[number] for number in numbers)
    kinds = Counter(device.device_kind for device in devices)
    if len(kinds) > 1:
        found = " and ".join(f"{count} x {kind}" for kind, count in kinds.items())
        raise PlanError(f"the devices must be of one kind, for each has the same part of the work: they are {found}")
    return devices


def _import_architectures(config: Config) -> None:
    problems = []
    for module in config.architectures:
        try:
            importlib.import_module(module)
        except Exception as error:
            problems.append(f"architectures: cannot import {module}: {type(error).__name__}: {error}")
    if problems:
        raise PlanError("\n".join(problems))


def _pool_spec(pool: PoolConfig, dtype: str) -> PoolSpec:
    """The pool in head blocks; one too small to hold anything is for the plan to refuse."""
    spec = PoolSpec(0, block_tokens=pool.block_tokens, lane=pool.lane, dtype=dtype)
    if pool.blocks is None and pool.memory is None and jax.devices()[0].memory_stats() is not None:
        return spec  # as large as can be
    memory = pool.memory or _CPU_POOL_BYTES
    return replace(spec, num_blocks=pool.blocks or max(2, memory // spec.block_bytes))
