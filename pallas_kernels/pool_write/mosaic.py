"""pool_write through Pallas's Mosaic GPU backend: tiles of chunks come in by TMA, and leave chunk by chunk."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu
from jaxtyping import Array, Float, Int

from muxjax.pallas_kernels.attention_inputs import lane_of, pad_heads
from muxjax.pallas_kernels.implementation import interpreted
from muxjax.pallas_kernels.pool_write.chunks import Chunks

# Chunks of a program, at most: a decode of 32 sequences still has more programs than a GPU has multiprocessors.
_TILE = 16
_MIN_CHUNK_BYTES = 16  # of a bulk copy
_MAX_CHUNK = 256  # elements of a dimension that TMA moves


def pool_write_mosaic(
    pool: Float[Array, "blocks 2 block_tokens lane"],
    keys: Float[Array, "layers rows kv_heads dim"],
    values: Float[Array, "layers rows kv_heads dim"],
    page_blocks: Int[Array, "layers pages kv_heads"],
    slot_mapping: Int[Array, " rows"],
) -> Float[Array, "blocks 2 block_tokens lane"]:
    """See `pool_write`. Heads of odd sizes are padded before the launch.

    Raises:
        NotImplementedError: heads too narrow or too wide for TMA.
    """
    layers, rows, kv_heads, dim = keys.shape
    chunks = Chunks.of(pool, keys)
    if chunks.width * pool.dtype.itemsize < _MIN_CHUNK_BYTES or chunks.width > _MAX_CHUNK:
        raise NotImplementedError(
            f"Mosaic's pool_write moves {_MIN_CHUNK_BYTES} bytes to {_MAX_CHUNK} elements at once, not "
            f"{chunks.width} of {pool.dtype}; 'triton' and 'xla' do"
        )
    num_chunks = layers * rows * kv_heads * chunks.per_head
    tile = math.gcd(num_chunks, _TILE)  # all of LLMs whose layers have 16 heads together

    def kernel(
        pool_ref: Any,
        keys_ref: Any,
        values_ref: Any,
        page_blocks_ref: Any,
        slots_ref: Any,
        *scratch: Any,
    ) -> None:
        *new, arrived = scratch
        first = jax.lax.axis_index("tile") * tile
        for source, staged in zip((keys_ref, values_ref), new, strict=True):
            plgpu.copy_gmem_to_smem(source.at[pl.ds(first, tile)], staged, arrived)
        # All targets before any copy, so that their loads overlap.
        targets = [target_of(first + index, page_blocks_ref, slots_ref) for index in range(tile)]
        plgpu.barrier_wait(arrived)
        for index, (slot, block, pool_row, column) in enumerate(targets):

            @pl.when(slot >= 0)
            def _(index: int = index, block: Any = block, pool_row: Any = pool_row, column: Any = column) -> None:
                for half, staged in enumerate(new):
                    target = pool_ref.at[block, half, pool_row, pl.ds(column, chunks.width)]
                    plgpu.copy_smem_to_gmem(staged.at[index], target, commit_group=False)

        plgpu.commit_smem_to_gmem_group()
        plgpu.wait_smem_to_gmem(0)

    def target_of(item: Any, page_blocks_ref: Any, slots_ref: Any) -> tuple[Any, ...]:
        layer, row, kv_head = chunks.origin(item // chunks.per_head)
        slot = slots_ref[row]
        page, pool_row, column = chunks.target(jnp.maximum(slot, 0), item % chunks.per_head)
        return slot, page_blocks_ref[layer, page, kv_head], pool_row, column

    call = plgpu.kernel(
        kernel,
        scratch_types=[*[plgpu.SMEM((tile, chunks.width), pool.dtype)] * 2, plgpu.Barrier(num_arrivals=2)],
        grid=(num_chunks // tile,),
        grid_names=("tile",),
        interpret=plgpu.InterpretGPUParams() if interpreted() else None,
        kernel_name="pool_write",
    )
    lane = lane_of(dim)
    new = (pad_heads(x.reshape(-1, kv_heads, dim), lane).reshape(num_chunks, chunks.width) for x in (keys, values))
    written = jax.new_ref(pool)
    call(written, *new, page_blocks, slot_mapping)
    return jax.freeze(written)
