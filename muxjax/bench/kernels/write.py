"""pool_write: right bit for bit, and how near it comes to the time that its bytes take."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from muxjax.bench.isolated import Case
from muxjax.bench.kernels.paged import BLOCK_ELEMENTS, DTYPE, random_heads
from muxjax.bench.kernels.scale import Scale
from muxjax.bench.kernels.timing import MAX_OPERATIONS, compile_timed, operations_per_call, time_operations
from muxjax.pallas_kernels.attention_inputs import lane_of
from muxjax.pallas_kernels.implementation import Implementation
from muxjax.pallas_kernels.pool_write import pool_write
from muxjax.pallas_kernels.pool_write.shapes import WriteShape

_POOL_LANE = 128
_LAYERS_OF_REPEATS = 4


def checks(scale: Scale, implementation: Implementation) -> Iterator[Case]:
    """Right at every named shape?"""
    for name, shape in scale.write_shapes.items():
        labels = {"operation": "pool_write", "implementation": implementation, "check": name}
        yield Case(labels, partial(_check, implementation, shape))


def timings(scale: Scale, implementation: Implementation) -> Iterator[Case]:
    """Fast?"""
    for name, shape in scale.write_shapes.items():
        labels = {"operation": "pool_write", "implementation": implementation, "shape": name}
        yield Case(labels, partial(_time, implementation, shape, scale))


def _check(implementation: Implementation, shape: WriteShape) -> dict[str, Any]:
    """All of the pool against plain JAX's; one row is padding."""
    inputs, [slots] = _inputs(shape, 1)

    @jax.jit
    def differences(*inputs: Array) -> Array:
        written, expected = (
            jax.lax.optimization_barrier(pool_write(*inputs, implementation=name)) for name in (implementation, "xla")
        )
        bits = (jax.lax.bitcast_convert_type(x, jnp.uint16) for x in (written, expected))
        return jnp.count_nonzero(next(bits) != next(bits))

    different = int(differences(*inputs, slots.at[-1].set(-1)))
    return {"is_right": different == 0, "largest_error": float(different), "compared": inputs[0].size}


def _time(implementation: Implementation, shape: WriteShape, scale: Scale) -> dict[str, Any]:
    """Writes one after the other into one pool, each from arrays of its own to slots of its own."""
    nbytes = moved_bytes(shape)
    writes = operations_per_call(nbytes, scale)
    (pool, keys, values, page_blocks), slots = _inputs(shape, writes)
    new = [(keys + index, values - index) for index in range(writes)]
    repeats = 1 if scale.is_interpreted else max(1, _LAYERS_OF_REPEATS * MAX_OPERATIONS // writes)

    def step(pool: Array, new: list[tuple[Array, Array]], page_blocks: Array, slots: list[Array]) -> Array:
        for _ in range(repeats):
            for (keys, values), own in zip(new, slots, strict=True):
                pool = pool_write(pool, keys, values, page_blocks, own, implementation=implementation)
        return pool

    program = compile_timed(step, donate=True)
    times = time_operations(lambda pool: program(pool, new, page_blocks, slots), pool, writes * repeats, scale)
    return {**times, "gb_per_s": nbytes / times["us"] / 1e3, "is_cold": writes * nbytes >= scale.cold_bytes}


def moved_bytes(shape: WriteShape) -> int:
    """New keys and values read and written once, their lanes in the pool in full."""
    heads = 2 * shape.layers * shape.sequences * shape.rows * shape.kv_heads
    return heads * (shape.head_dim + lane_of(shape.head_dim)) * jnp.dtype(DTYPE).itemsize


def _inputs(shape: WriteShape, writes: int) -> tuple[tuple[Array, Array, Array, Array], list[Array]]:
    """Pool, keys, values and table, and for each write slots that no other has; sequences have pages of their own."""
    rng = np.random.default_rng(0)
    page_tokens = BLOCK_ELEMENTS // lane_of(shape.head_dim)
    pages = -(-shape.rows * writes // page_tokens)  # of a sequence
    blocks = shape.layers * shape.sequences * pages * shape.kv_heads
    pool = jnp.zeros((1 + blocks, 2, BLOCK_ELEMENTS // _POOL_LANE, _POOL_LANE), DTYPE)
    page_blocks = 1 + rng.permutation(blocks).reshape(shape.layers, shape.sequences * pages, shape.kv_heads)
    keys, values = random_heads(rng, 2, shape.layers, shape.sequences * shape.rows, shape.kv_heads, shape.head_dim)
    first = np.add.outer(np.arange(shape.sequences) * pages * page_tokens, np.arange(shape.rows)).ravel()
    slots = [jnp.asarray(first + write * shape.rows, jnp.int32) for write in range(writes)]
    return (pool, keys, values, jnp.asarray(page_blocks, jnp.int32)), slots
