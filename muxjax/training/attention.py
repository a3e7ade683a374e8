"""Causal attention for training: no scores kept for the backward pass, nothing computed above the diagonal's blocks."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

BLOCK = 128


@jax.checkpoint
def blocked_causal_attention(
    queries: Float[Array, "tokens q_heads dim"],
    keys: Float[Array, "tokens kv_heads dim"],
    values: Float[Array, "tokens kv_heads dim"],
) -> Float[Array, "tokens q_heads dim"]:
    """`muxjax.models.attention.causal_attention`, in blocks of queries that read no key after their last.

    On a CPU, writing and reading scores takes longer than computing them again.
    """
    blocks = range(0, queries.shape[0], BLOCK)
    return jnp.concatenate([_attend(queries[start : start + BLOCK], keys, values, start) for start in blocks])


def _attend(queries: Array, keys: Array, values: Array, start: int) -> Array:
    tokens, q_heads, dim = queries.shape
    end = start + tokens
    kv_heads = keys.shape[1]
    grouped = (queries * dim**-0.5).reshape(tokens, kv_heads, q_heads // kv_heads, dim)
    scores = jnp.einsum("tkgd,skd->kgts", grouped, keys[:end])
    visible = jnp.arange(end) <= start + jnp.arange(tokens)[:, None]
    weights = jax.nn.softmax(jnp.where(visible, scores, -jnp.inf), axis=-1)
    return jnp.einsum("kgts,skd->tkgd", weights, values[:end]).reshape(tokens, q_heads, dim)
