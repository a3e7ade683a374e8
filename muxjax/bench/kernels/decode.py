"""paged_decode: right against its definition, and how near it comes to the memory's bandwidth."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from muxjax.bench.isolated import Case
from muxjax.bench.kernels.agreement import Agreement
from muxjax.bench.kernels.paged import (
    BLOCK_ELEMENTS,
    DTYPE,
    random_heads,
    random_pool,
    scatter_pages,
    scatter_past,
)
from muxjax.bench.kernels.scale import Scale
from muxjax.bench.kernels.timing import compile_timed, operations_per_call, time_operations
from muxjax.pallas_kernels.attention_inputs import lane_of
from muxjax.pallas_kernels.implementation import Implementation
from muxjax.pallas_kernels.paged_decode import paged_decode
from muxjax.pallas_kernels.paged_decode.shapes import DecodeShape
from muxjax.pallas_kernels.reference import causal_attention, past_tokens

OPTIONS: tuple[dict[str, Any], ...] = ({}, {"sliding_window": 100, "soft_cap": 20.0})
_CHECKED_SEQUENCES = 4
Decode = Callable[..., Array]


def checks(scale: Scale, implementation: Implementation) -> Iterator[Case]:
    """Right at every named shape?"""
    decode = partial(paged_decode, implementation=implementation)
    for name, shape in scale.decode_shapes.items():
        labels = {"operation": "paged_decode", "implementation": implementation, "check": name}
        yield Case(labels, partial(_check, decode, shape))


def timings(scale: Scale, implementation: Implementation) -> Iterator[Case]:
    """Fast? The batches with a target first."""
    decode, pools = partial(paged_decode, implementation=implementation), Pools(scale)
    for name, shape in _timed_shapes(scale).items():
        labels = {"operation": "paged_decode", "implementation": implementation, "shape": name, **sizes(shape)}
        yield Case(labels, partial(time_decode, decode, shape, scale, pools))


def _timed_shapes(scale: Scale) -> dict[str, DecodeShape]:
    """The batches of the grid, and the named shapes with other heads, as far as they fit."""
    q_heads, kv_heads, dim = scale.decode_heads
    grid = {
        f"batch {batch}, context {context}": DecodeShape(batch, context, q_heads, kv_heads, dim)
        for batch, context in scale.batches
    }
    others = {
        name: shape
        for name, shape in scale.decode_shapes.items()
        if (shape.q_heads, shape.kv_heads, shape.head_dim) != scale.decode_heads
    }
    return {name: shape for name, shape in (grid | others).items() if fits(shape, scale)}


def sizes(shape: DecodeShape) -> dict[str, int]:
    """What targets ask of a shape."""
    return {"batch": shape.sequences, "context": shape.kv_len}


def fits(shape: DecodeShape, scale: Scale) -> bool:
    """Whether the batch's keys and values fit in the pool."""
    lane = lane_of(shape.head_dim)
    page_tokens = BLOCK_ELEMENTS // lane
    blocks = shape.sequences * -(-shape.kv_len // page_tokens) * shape.kv_heads
    return (1 + blocks) * 2 * BLOCK_ELEMENTS * jnp.dtype(DTYPE).itemsize <= scale.pool_bytes


def _check(decode: Decode, shape: DecodeShape) -> dict[str, Any]:
    """The largest error of some sequences, of ragged lengths and padding, in float64, with and without options."""
    rng = np.random.default_rng(0)
    past = rng.integers(0, shape.kv_len, shape.sequences)
    past[0] = shape.kv_len - 1
    pool, page_blocks, page_table = scatter_past(rng, past.tolist(), shape.kv_heads, shape.head_dim)
    queries = random_heads(rng, shape.sequences, shape.q_heads, shape.head_dim)
    keys, values = random_heads(rng, 2, shape.sequences, shape.kv_heads, shape.head_dim)
    kv_lens = past + 1
    if shape.sequences > 1:
        kv_lens[-1] = 0
    tables = (jnp.asarray(page_blocks), jnp.asarray(page_table), jnp.asarray(kv_lens, jnp.int32))
    agreement = Agreement()
    group, options = shape.q_heads // shape.kv_heads, {"sm_scale": shape.head_dim**-0.5}
    checked = {0, *rng.integers(0, shape.sequences, _CHECKED_SEQUENCES).tolist()}
    for extra in OPTIONS:
        program = jax.jit(partial(decode, **options, **extra))
        output = np.asarray(program(queries, keys, values, pool, *tables), np.float64)
        agreement.expect_finite(output)
        asked = {"sliding_window": None, "soft_cap": None, **options, **extra}
        for seq in checked:
            head = int(rng.integers(shape.kv_heads))
            rows = slice(head * group, (head + 1) * group)
            if kv_lens[seq] == 0:
                agreement.add(output[seq], np.zeros_like(output[seq]))
                continue
            own_keys, own_values = _tokens(
                pool, page_blocks[page_table[seq], head], int(past[seq]), keys[seq, head], values[seq, head]
            )
            expected = [
                causal_attention(np.asarray(query)[None], own_keys, own_values, **asked)[0]
                for query in queries[seq, rows]
            ]
            agreement.add(output[seq, rows], np.stack(expected))
    return agreement.figures()


def _tokens(
    pool: Array, blocks: np.ndarray, past: int, key: Float[Array, " dim"], value: Float[Array, " dim"]
) -> tuple[np.ndarray, np.ndarray]:
    """All keys and values of one head of a sequence, brought here block by block."""
    here = np.asarray(pool[jnp.asarray(blocks)])
    old = past_tokens(here, np.arange(len(blocks)), past, key.shape[-1])
    new = np.stack([np.asarray(key, np.float64), np.asarray(value, np.float64)])[:, None]
    both = np.concatenate([old, new], axis=1)
    return both[0], both[1]


class Pools:
    """A pool for heads of one size at a time, made when it is asked for."""

    def __init__(self, scale: Scale) -> None:
        self._scale = scale
        self._pool: Array | None = None

    def get(self, head_dim: int) -> Array:
        """The pool as heads of this size see it."""
        lane = lane_of(head_dim)
        if self._pool is None or self._pool.shape[-1] != lane:
            self._pool = None  # there is room for one
            self._pool = random_pool(self._scale.pool_bytes, lane)
        return self._pool


def time_decode(decode: Decode, shape: DecodeShape, scale: Scale, pools: Pools) -> dict[str, Any]:
    """A batch of equal lengths; layers one after the other, each on blocks of its own, queries from the one before."""
    rng = np.random.default_rng(0)
    pool = pools.get(shape.head_dim)
    nbytes = moved_bytes(shape)
    layers = operations_per_call(nbytes, scale)
    max_pages = -(-shape.kv_len // pool.shape[2])
    pages = [scatter_pages(rng, shape.sequences, max_pages, shape.kv_heads, pool.shape[0]) for _ in range(layers)]
    page_blocks = [jnp.asarray(blocks) for blocks, _ in pages]
    tables = jnp.asarray(pages[0][1]), jnp.full(shape.sequences, shape.kv_len, jnp.int32)
    queries = random_heads(rng, shape.sequences, shape.q_heads, shape.head_dim)
    new = tuple(random_heads(rng, 2, shape.sequences, shape.kv_heads, shape.head_dim))

    def step(queries: Array, pool: Array, new: tuple[Array, Array], page_blocks: list[Array], tables: Any) -> Array:
        for blocks in page_blocks:
            queries = decode(queries, *new, pool, blocks, *tables, sm_scale=shape.head_dim**-0.5)
        return queries

    program = compile_timed(step)
    times = time_operations(lambda queries: program(queries, pool, new, page_blocks, tables), queries, layers, scale)
    return {**times, "gb_per_s": nbytes / times["us"] / 1e3, "is_cold": layers * nbytes >= scale.cold_bytes}


def moved_bytes(shape: DecodeShape) -> int:
    """Keys and values of the past that are read; the rest is thousands of times less."""
    itemsize = jnp.dtype(DTYPE).itemsize
    return 2 * shape.sequences * (shape.kv_len - 1) * shape.kv_heads * lane_of(shape.head_dim) * itemsize
