"""pool_write as one XLA scatter."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from muxjax.pallas_kernels.attention_inputs import lane_of


def pool_write_xla(
    pool: Float[Array, "blocks 2 block_tokens lane"],
    keys: Float[Array, "layers rows kv_heads dim"],
    values: Float[Array, "layers rows kv_heads dim"],
    page_blocks: Int[Array, "layers pages kv_heads"],
    slot_mapping: Int[Array, " rows"],
) -> Float[Array, "blocks 2 block_tokens lane"]:
    """See `pool_write`; padding is sent to a block past the end, which the scatter drops."""
    num_blocks, lane = pool.shape[0], lane_of(keys.shape[-1])
    view = pool.reshape(num_blocks, 2, -1, lane)
    page_tokens = view.shape[2]
    tokens = jnp.stack([keys, values], axis=3)  # [layers, rows, kv_heads, 2, dim]
    tokens = jnp.pad(tokens, ((0, 0),) * 4 + ((0, lane - keys.shape[-1]),))
    blocks = page_blocks[:, slot_mapping // page_tokens]  # [layers, rows, kv_heads]
    blocks = jnp.where((slot_mapping >= 0)[:, None], blocks, num_blocks)
    halves = jnp.arange(2)
    offsets = (slot_mapping % page_tokens)[:, None, None]
    return view.at[blocks[..., None], halves, offsets].set(tokens, mode="drop").reshape(pool.shape)
