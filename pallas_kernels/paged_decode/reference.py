"""The definition of paged_decode, one sequence and one head at a time, in NumPy's float64."""

import numpy as np
from jaxtyping import Float64, Int, Num

from muxjax.pallas_kernels.reference import causal_attention, past_tokens


def paged_decode_reference(
    queries: Num[np.ndarray, "seqs q_heads dim"],
    keys: Num[np.ndarray, "seqs kv_heads dim"],
    values: Num[np.ndarray, "seqs kv_heads dim"],
    pool: Num[np.ndarray, "blocks 2 page_tokens lane"],
    page_blocks: Int[np.ndarray, "pages kv_heads"],
    page_table: Int[np.ndarray, "seqs max_pages"],
    kv_lens: Int[np.ndarray, " seqs"],
    *,
    sm_scale: float,
    sliding_window: int | None = None,
    soft_cap: float | None = None,
) -> Float64[np.ndarray, "seqs q_heads dim"]:
    """See `paged_decode`."""
    attention = np.zeros(queries.shape)
    group = queries.shape[1] // keys.shape[1]
    for seq, kv_len in enumerate(kv_lens):
        for head in range(queries.shape[1] if kv_len else 0):
            kv_head = head // group
            past = past_tokens(pool, page_blocks[page_table[seq], kv_head], int(kv_len) - 1, queries.shape[2])
            own = np.stack([keys[seq, kv_head], values[seq, kv_head]])[:, None]
            tokens = np.concatenate([past, own], axis=1)
            attention[seq, head] = causal_attention(
                queries[seq, head, None], tokens[0], tokens[1], sm_scale, sliding_window, soft_cap
            )[0]
    return attention
