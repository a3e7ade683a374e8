"""What the device can do at best: bytes copied and read, products, and launches a second."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from muxjax.bench.isolated import Case
from muxjax.bench.kernels.scale import Scale
from muxjax.bench.kernels.timing import compile_timed, time_operations
from muxjax.bench.machine import describe_machine

_COPY_SHARE = 16  # of the pool's size


def cases(scale: Scale) -> Iterator[Case]:
    """The machine itself first; nothing more where a GPU was expected."""
    yield Case({"what": "machine"}, describe_machine)
    if jax.default_backend() == "cpu" and not scale.is_interpreted:
        return
    yield Case({"what": "copy"}, partial(_copy, scale))
    yield Case({"what": "read"}, partial(_read, scale))
    yield Case({"what": "matmul", "dtype": "bfloat16"}, partial(_matmul, scale))
    yield Case({"what": "launch"}, partial(_launch, scale))


def _copy(scale: Scale) -> dict[str, Any]:
    """Of an array much larger than any cache; bytes read and bytes written both count."""
    source = jnp.ones(scale.pool_bytes // _COPY_SHARE, jnp.int8).view(jnp.int32)
    times = time_operations(compile_timed(lambda x: x + 1, donate=True), source, 1, scale)
    return {**times, "gb_per_s": 2 * source.nbytes / times["us"] / 1e3}


def _read(scale: Scale) -> dict[str, Any]:
    array = jnp.ones(scale.pool_bytes // _COPY_SHARE, jnp.int8).view(jnp.int32)
    total = compile_timed(lambda total, array: array.sum() + total)
    times = time_operations(lambda state: total(state, array), jnp.int32(0), 1, scale)
    return {**times, "gb_per_s": array.nbytes / times["us"] / 1e3}


def _matmul(scale: Scale) -> dict[str, Any]:
    """XLA's choice of a product of two square matrices."""
    size = scale.matmul_size
    right = jax.random.normal(jax.random.key(0), (size, size), jnp.bfloat16) / size**0.5
    product = compile_timed(lambda left, right: left @ right)
    times = time_operations(lambda left: product(left, right), right, 1, scale)
    return {**times, "tflop_per_s": 2 * size**3 / times["us"] / 1e6}


def _launch(scale: Scale) -> dict[str, Any]:
    """A program of one kernel that does nothing: no operation that is dispatched alone is seen to be faster."""
    return time_operations(compile_timed(lambda x: x + 1), jnp.int32(0), 1, scale)
