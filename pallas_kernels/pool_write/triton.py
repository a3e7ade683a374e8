"""pool_write through Pallas's Triton backend: one launch, in which every program moves a tile of chunks."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
from jaxtyping import Array, Float, Int

from muxjax.pallas_kernels.implementation import interpreted
from muxjax.pallas_kernels.pool_write.chunks import Chunks

# A thread moves four vectors of 16 bytes of the keys and as many of the values: enough in flight for the memory's
# latency, and small enough that a decode of 32 sequences has more programs than a GPU has multiprocessors.
_WARPS = 4
_TILE_BYTES = 8192


def pool_write_triton(
    pool: Float[Array, "blocks 2 block_tokens lane"],
    keys: Float[Array, "layers rows kv_heads dim"],
    values: Float[Array, "layers rows kv_heads dim"],
    page_blocks: Int[Array, "layers pages kv_heads"],
    slot_mapping: Int[Array, " rows"],
) -> Float[Array, "blocks 2 block_tokens lane"]:
    """See `pool_write`."""
    layers, rows, kv_heads, dim = keys.shape
    heads, num_blocks = layers * rows * kv_heads, pool.shape[0]
    chunks = Chunks.of(pool, keys)
    tile = max(1, _TILE_BYTES // (chunks.width * pool.dtype.itemsize))

    def kernel(_: Any, keys_ref: Any, values_ref: Any, page_blocks_ref: Any, slots_ref: Any, pool_ref: Any) -> None:
        item = pl.program_id(0) * tile + jnp.arange(tile)
        head, chunk, lanes = item // chunks.per_head, item % chunks.per_head, jnp.arange(chunks.width)
        exists, element = head < heads, (chunk * chunks.width)[:, None] + lanes
        is_element = exists[:, None] & (element < dim)
        new = [plgpu.load(ref.at[head[:, None], element], mask=is_element, other=0) for ref in (keys_ref, values_ref)]
        layer, row, kv_head = chunks.origin(head)
        slot = plgpu.load(slots_ref.at[row], mask=exists, other=-1)
        is_written = slot >= 0
        page, pool_row, column = chunks.target(slot, chunk)
        block = plgpu.load(page_blocks_ref.at[layer, page, kv_head], mask=is_written, other=0)
        # Padding points past the end, too: the interpreter writes back what it finds where the mask says no.
        block = jnp.where(is_written, block, num_blocks)
        for half in range(2):
            target = pool_ref.at[block[:, None], half, pool_row[:, None], column[:, None] + lanes]
            plgpu.store(target, new[half], mask=is_written[:, None])

    anywhere = pl.BlockSpec(memory_space=pl.ANY)
    call = pl.pallas_call(
        kernel,
        out_shape=jax.ShapeDtypeStruct(pool.shape, pool.dtype),
        grid=(pl.cdiv(heads * chunks.per_head, tile),),
        in_specs=[anywhere] * 5,
        out_specs=anywhere,
        input_output_aliases={0: 0},
        compiler_params=plgpu.CompilerParams(num_warps=_WARPS),
        interpret=interpreted(),
        name="pool_write",
    )
    written: Float[Array, "blocks 2 block_tokens lane"] = call(
        pool, keys.reshape(heads, dim), values.reshape(heads, dim), page_blocks, slot_mapping
    )
    return written
