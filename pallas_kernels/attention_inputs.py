"""What paged_decode and ragged_prefill ask of their inputs."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def check_attention_inputs(
    queries: Float[Array, "rows q_heads dim"],
    keys: Float[Array, "rows kv_heads dim"],
    values: Float[Array, "rows kv_heads dim"],
    pool: Float[Array, "blocks 2 page_tokens lane"],
    page_blocks: Int[Array, "pages kv_heads"],
    sliding_window: int | None,
    soft_cap: float | None,
) -> None:
    """Raises ValueError, naming the argument, when shapes or options do not fit each other."""
    rows, q_heads, dim = queries.shape
    kv_heads = keys.shape[1]
    if keys.shape != values.shape or keys.shape != (rows, kv_heads, dim):
        raise ValueError(
            f"keys {keys.shape} and values {values.shape} must both be [{rows}, kv_heads, {dim}], "
            f"as queries are {queries.shape}"
        )
    if q_heads % kv_heads:
        raise ValueError(f"queries have {q_heads} heads, which is no multiple of the {kv_heads} heads of keys")
    if page_blocks.ndim != 2 or page_blocks.shape[1] != kv_heads:
        raise ValueError(f"page_blocks {page_blocks.shape} must be [pages, {kv_heads}]: one layer's table")
    if pool.ndim != 4 or pool.shape[1] != 2 or pool.shape[3] < dim:
        raise ValueError(f"pool {pool.shape} must be [blocks, 2, page_tokens, lane] with lane at least {dim}")
    if sliding_window is not None and sliding_window < 1:
        raise ValueError(f"sliding_window={sliding_window} must be at least 1, or None for full attention")
    if soft_cap is not None and not soft_cap > 0:
        raise ValueError(f"soft_cap={soft_cap} must be positive, or None for no cap")


def lane_of(head_dim: int) -> int:
    """The width of a head in the pool: the next power of two."""
    return 1 << (head_dim - 1).bit_length()


def pad_heads(heads: Float[Array, "rows heads dim"], lane: int) -> Float[Array, "rows heads lane"]:
    """Appends zeros to every head, up to the pool's lane."""
    missing = lane - heads.shape[-1]
    return jnp.pad(heads, ((0, 0), (0, 0), (0, missing))) if missing else heads
