"""Causal attention for training: no scores kept for the backward pass, nothing computed above the diagonal's blocks."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from muxjax.models.attention import cap, is_visible

BLOCK = 128


def blocked_causal_attention(
    queries: Float[Array, "tokens q_heads dim"],
    keys: Float[Array, "tokens kv_heads dim"],
    values: Float[Array, "tokens kv_heads dim"],
    *,
    sm_scale: float | None = None,
    sliding_window: int | None = None,
    soft_cap: float | None = None,
) -> Float[Array, "tokens q_heads dim"]:
    """`muxjax.models.attention.causal_attention`, in blocks of queries that read no key after their last.

    On a CPU, writing and reading scores takes longer than computing them again.
    """

    @jax.checkpoint
    def attend(queries: Array, keys: Array, values: Array) -> Array:
        scaled = queries * (queries.shape[-1] ** -0.5 if sm_scale is None else sm_scale)
        blocks = range(0, queries.shape[0], BLOCK)
        return jnp.concatenate([_attend(scaled, keys, values, start, sliding_window, soft_cap) for start in blocks])

    return attend(queries, keys, values)


def _attend(
    queries: Array, keys: Array, values: Array, start: int, sliding_window: int | None, soft_cap: float | None
) -> Array:
    """Attention of one block of queries, from `start` on, over the keys that any of them sees."""
    first = 0 if sliding_window is None else max(0, start - sliding_window + 1)
    queries = queries[start : start + BLOCK]
    tokens, q_heads, dim = queries.shape
    end = start + tokens
    kv_heads = keys.shape[1]
    grouped = queries.reshape(tokens, kv_heads, q_heads // kv_heads, dim)
    scores = cap(jnp.einsum("tkgd,skd->kgts", grouped, keys[first:end]), soft_cap)
    visible = is_visible(jnp.arange(start, end)[:, None], jnp.arange(first, end), sliding_window)
    weights = jax.nn.softmax(jnp.where(visible, scores, -jnp.inf), axis=-1)
    return jnp.einsum("kgts,skd->tkgd", weights, values[first:end]).reshape(tokens, q_heads, dim)
