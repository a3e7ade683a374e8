"""The definition of ragged_prefill, one sequence and one head at a time, in NumPy's float64."""

import itertools

import numpy as np
from jaxtyping import Float64, Int, Num

from muxjax.pallas_kernels.reference import causal_attention, past_tokens


def ragged_prefill_reference(
    queries: Num[np.ndarray, "rows q_heads dim"],
    keys: Num[np.ndarray, "rows kv_heads dim"],
    values: Num[np.ndarray, "rows kv_heads dim"],
    pool: Num[np.ndarray, "blocks 2 page_tokens lane"],
    page_blocks: Int[np.ndarray, "pages kv_heads"],
    page_table: Int[np.ndarray, "seqs max_pages"],
    query_start_loc: Int[np.ndarray, " seqs_plus_1"],
    kv_lens: Int[np.ndarray, " seqs"],
    *,
    sm_scale: float,
    sliding_window: int | None = None,
    soft_cap: float | None = None,
) -> Float64[np.ndarray, "rows q_heads dim"]:
    """See `ragged_prefill`."""
    attention = np.zeros(queries.shape)
    group = queries.shape[1] // keys.shape[1]
    for seq, (start, end) in enumerate(itertools.pairwise(query_start_loc)):
        if start == end:
            continue
        past_len = int(kv_lens[seq] - (end - start))
        for head in range(queries.shape[1]):
            kv_head = head // group
            past = past_tokens(pool, page_blocks[page_table[seq], kv_head], past_len, queries.shape[2])
            own = np.stack([keys[start:end, kv_head], values[start:end, kv_head]])
            tokens = np.concatenate([past, own], axis=1)
            attention[start:end, head] = causal_attention(
                queries[start:end, head], tokens[0], tokens[1], sm_scale, sliding_window, soft_cap
            )
    return attention
