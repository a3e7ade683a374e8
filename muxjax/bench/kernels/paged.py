"""Sequences scattered over a pool on the device."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32

from muxjax.pallas_kernels.attention_inputs import lane_of
from muxjax.pallas_kernels.pool_write import pool_write

BLOCK_ELEMENTS = 4096
DTYPE = jnp.bfloat16


class Paged(NamedTuple):
    """The past of some sequences, as an LLM's layer sees it."""

    pool: Float[Array, "blocks 2 page_tokens lane"]
    page_blocks: Int32[np.ndarray, "pages kv_heads"]
    page_table: Int32[np.ndarray, "seqs max_pages"]


def scatter_past(rng: np.random.Generator, past: Sequence[int], kv_heads: int, head_dim: int) -> Paged:
    """Random tokens; all else of the pool is NaN, and no reader's."""
    lane = lane_of(head_dim)
    page_tokens = BLOCK_ELEMENTS // lane
    max_pages = max(1, -(-max(past) // page_tokens))
    pages = 1 + len(past) * max_pages
    page_blocks, page_table = scatter_pages(rng, len(past), max_pages, kv_heads, 1 + pages * kv_heads)
    pool = jnp.full((1 + pages * kv_heads, 2, page_tokens, lane), jnp.nan, DTYPE)
    positions = [np.arange(length) for length in past]
    slots = np.concatenate(
        [
            page_table[seq][tokens // page_tokens] * page_tokens + tokens % page_tokens
            for seq, tokens in enumerate(positions)
        ]
    )
    if slots.size:
        keys, values = random_heads(rng, 2, 1, slots.size, kv_heads, head_dim)
        # Plain JAX, so that no kernel is checked with what it wrote itself.
        write = jax.jit(pool_write, donate_argnums=0, static_argnames="implementation")
        tables = jnp.asarray(page_blocks[None]), jnp.asarray(slots, jnp.int32)
        pool = write(pool, keys, values, *tables, implementation="xla")
    return Paged(pool, page_blocks, page_table)


def scatter_pages(
    rng: np.random.Generator, sequences: int, pages_each: int, kv_heads: int, num_blocks: int
) -> tuple[Int32[np.ndarray, "pages kv_heads"], Int32[np.ndarray, "seqs max_pages"]]:
    """Tables of as many pages as the sequences have, over random blocks; page 0 and block 0 are nobody's."""
    pages = sequences * pages_each
    page_blocks = np.zeros((1 + pages, kv_heads), np.int32)
    page_blocks[1:] = 1 + rng.permutation(num_blocks - 1)[: pages * kv_heads].reshape(pages, kv_heads)
    return page_blocks, 1 + rng.permutation(pages).astype(np.int32).reshape(sequences, pages_each)


def random_pool(nbytes: int, lane: int) -> Float[Array, "blocks 2 page_tokens lane"]:
    """A pool full of random numbers, that repeat: it is made to be read, not to be judged."""
    shape = (2, BLOCK_ELEMENTS // lane, lane)
    tile = jax.random.normal(jax.random.key(0), (64, *shape), DTYPE)
    repeats = max(1, nbytes // tile.nbytes)
    return jax.jit(lambda tile: jnp.broadcast_to(tile, (repeats, *tile.shape)).reshape(-1, *shape))(tile)


def random_heads(rng: np.random.Generator, *shape: int) -> Float[Array, "..."]:
    """Normally distributed, on the device."""
    return jax.random.normal(jax.random.key(int(rng.integers(2**31))), shape, DTYPE)
