"""The definition of pool_write, one token at a time, in NumPy."""

import numpy as np
from jaxtyping import Int, Num

from muxjax.pallas_kernels.attention_inputs import lane_of


def pool_write_reference(
    pool: Num[np.ndarray, "blocks 2 block_tokens lane"],
    keys: Num[np.ndarray, "layers rows kv_heads dim"],
    values: Num[np.ndarray, "layers rows kv_heads dim"],
    page_blocks: Int[np.ndarray, "layers pages kv_heads"],
    slot_mapping: Int[np.ndarray, " rows"],
) -> Num[np.ndarray, "blocks 2 block_tokens lane"]:
    """See `pool_write`; returns a new pool."""
    layers, rows, kv_heads, dim = keys.shape
    view = pool.reshape(pool.shape[0], 2, -1, lane_of(dim)).copy()
    for row in range(rows):
        if slot_mapping[row] < 0:
            continue
        page, offset = divmod(int(slot_mapping[row]), view.shape[2])
        for layer in range(layers):
            for head in range(kv_heads):
                token = view[page_blocks[layer, page, head], :, offset]
                token[:] = 0
                token[0, :dim] = keys[layer, row, head]
                token[1, :dim] = values[layer, row, head]
    return view.reshape(pool.shape)
