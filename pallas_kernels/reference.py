"""What the definitions of paged_decode and ragged_prefill share: one query against one list of tokens."""

import numpy as np
from jaxtyping import Float64, Int, Num


def past_tokens(
    pool: Num[np.ndarray, "blocks 2 page_tokens lane"], blocks: Int[np.ndarray, " max_pages"], count: int, dim: int
) -> Float64[np.ndarray, "2 count dim"]:
    """The first `count` keys (row 0) and values (row 1) of a sequence and KV head; its blocks are given in order."""
    page_tokens = pool.shape[2]
    used = pool[blocks[: -(-count // page_tokens)]].astype(np.float64)
    return used.transpose(1, 0, 2, 3).reshape(2, -1, pool.shape[3])[:, :count, :dim]


def attend_one(
    query: Num[np.ndarray, " dim"],
    keys: Num[np.ndarray, "tokens dim"],
    values: Num[np.ndarray, "tokens dim"],
    sm_scale: float,
    sliding_window: int | None,
    soft_cap: float | None,
) -> Float64[np.ndarray, " dim"]:
    """Attention of the last token's query over all tokens up to itself, or over the last `sliding_window` of them."""
    start = 0 if sliding_window is None else max(0, len(keys) - sliding_window)
    scores = sm_scale * (keys[start:].astype(np.float64) @ query.astype(np.float64))
    if soft_cap is not None:
        scores = soft_cap * np.tanh(scores / soft_cap)
    weights = np.exp(scores - scores.max())
    attention: Float64[np.ndarray, " dim"] = weights @ values[start:].astype(np.float64) / weights.sum()
    return attention
