"""paged_decode in C: a prefill of one row per sequence."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from muxjax.pallas_kernels.cpu.attention import attention_cpu


def paged_decode_cpu(
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
    """See `paged_decode` and `attention_cpu`."""
    return attention_cpu(
        queries,
        keys,
        values,
        pool,
        page_blocks,
        page_table,
        jnp.arange(queries.shape[0] + 1, dtype=jnp.int32),
        kv_lens,
        sm_scale=sm_scale,
        sliding_window=sliding_window,
        soft_cap=soft_cap,
    )
