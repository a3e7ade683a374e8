"""paged_decode in plain JAX: a loop over pages that ends with the longest sequence."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from muxjax.pallas_kernels.online_softmax import OnlineSoftmax, attention_scores


def paged_decode_xla(
    queries: Float[Array, "seqs q_heads lane"],
    keys: Float[Array, "seqs kv_heads lane"],
    values: Float[Array, "seqs kv_heads lane"],
    pool: Float[Array, "blocks 2 page_tokens lane"],
    page_blocks: Int[Array, "pages kv_heads"],
    page_table: Int[Array, "seqs max_pages"],
    kv_lens: Int[Array, " seqs"],
    *,
    sm_scale: float,
    sliding_window: int | None,
    soft_cap: float | None,
) -> Float[Array, "seqs q_heads lane"]:
    """See `paged_decode`; one page of every sequence is gathered at a time, so memory does not grow with length."""
    seqs, q_heads, lane = queries.shape
    kv_heads, page_tokens = keys.shape[1], pool.shape[2]
    grouped = queries.reshape(seqs, kv_heads, q_heads // kv_heads, lane).astype(jnp.float32)
    past = jnp.maximum(kv_lens - 1, 0)
    first = jnp.zeros_like(past) if sliding_window is None else jnp.maximum(past + 1 - sliding_window, 0)

    def add_page(index: Int[Array, ""], state: OnlineSoftmax) -> OnlineSoftmax:
        tile = pool[page_blocks[page_table[:, index]]].astype(jnp.float32)  # [seqs, kv_heads, 2, page_tokens, lane]
        positions = index * page_tokens + jnp.arange(page_tokens)
        visible = (positions >= first[:, None]) & (positions < past[:, None])
        scores = attention_scores(grouped, tile[:, :, 0], sm_scale, soft_cap)
        return state.add(scores, visible[:, None, None], tile[:, :, 1])

    own_scores = attention_scores(grouped, keys[:, :, None].astype(jnp.float32), sm_scale, soft_cap)
    state = OnlineSoftmax.empty(*grouped.shape).add(
        own_scores, jnp.ones_like(own_scores, dtype=bool), values[:, :, None].astype(jnp.float32)
    )
    first_page = jnp.min(first) // page_tokens
    end_page = (jnp.max(past) + page_tokens - 1) // page_tokens
    attention = lax.fori_loop(first_page, end_page, add_page, state).attention()
    attention = jnp.where(kv_lens[:, None, None, None] > 0, attention, 0)
    return attention.reshape(queries.shape).astype(queries.dtype)
