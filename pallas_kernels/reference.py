"""What the definitions of paged_decode and ragged_prefill share: the newest tokens of a sequence against all of it."""

import numpy as np
from jaxtyping import Float64, Int, Num


def past_tokens(
    pool: Num[np.ndarray, "blocks 2 page_tokens lane"], blocks: Int[np.ndarray, " max_pages"], count: int, dim: int
) -> Float64[np.ndarray, "2 count dim"]:
    """The first `count` keys (row 0) and values (row 1) of a sequence and KV head; its blocks are given in order."""
    page_tokens = pool.shape[2]
    used = pool[blocks[: -(-count // page_tokens)]].astype(np.float64)
    return used.transpose(1, 0, 2, 3).reshape(2, -1, pool.shape[3])[:, :count, :dim]


def causal_attention(
    queries: Num[np.ndarray, "rows dim"],
    keys: Num[np.ndarray, "tokens dim"],
    values: Num[np.ndarray, "tokens dim"],
    sm_scale: float,
    sliding_window: int | None,
    soft_cap: float | None,
) -> Float64[np.ndarray, "rows dim"]:
    """Attention of the last `rows` tokens, each over all tokens up to itself or the last `sliding_window` of them."""
    scores = sm_scale * (queries.astype(np.float64) @ keys.astype(np.float64).T)
    if soft_cap is not None:
        scores = soft_cap * np.tanh(scores / soft_cap)
    token = np.arange(len(keys))
    row = token[len(keys) - len(queries) :, None]
    visible = (token <= row) & (token > row - (sliding_window or len(keys)))
    scores = np.where(visible, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    attention: Float64[np.ndarray, "rows dim"] = weights @ values.astype(np.float64) / weights.sum(axis=1)[:, None]
    return attention
