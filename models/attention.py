"""Attention's projections, and plain causal attention over one whole sequence."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from muxjax.models.config import DecoderConfig
from muxjax.models.linear import init_weights, project
from muxjax.models.rope import apply_rope, make_rotation

Attend = Callable[
    [Float[Array, "tokens q_heads dim"], Float[Array, "tokens kv_heads dim"], Float[Array, "tokens kv_heads dim"]],
    Float[Array, "tokens q_heads dim"],
]
"""attend(queries, keys, values): how the tokens of a call see each other and their past is the caller's choice."""

KeyValues = tuple[Float[Array, "*layers tokens kv_heads dim"], Float[Array, "*layers tokens kv_heads dim"]]


class Attention(nnx.Module):
    """Queries, keys and values of grouped heads (Ainslie et al. 2023), rotated, attended, projected back.

    The fused projection keeps each KV head beside the queries that use it, so that it can be cut by KV head:
    `qkv[hidden, kv_heads, queries_per_kv + 2, dim]`, the last two of a group being its key and its value.
    """

    def __init__(self, config: DecoderConfig, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.rope = config.rope
        group = config.queries_per_kv + 2
        self.qkv = init_weights(rngs, (config.hidden_size, config.num_kv_heads, group, config.head_dim), dtype)
        self.out = init_weights(rngs, (config.num_heads * config.head_dim, config.hidden_size), dtype)

    def __call__(
        self, hidden: Float[Array, "tokens hidden"], positions: Int[Array, " tokens"], attend: Attend
    ) -> tuple[Float[Array, "tokens hidden"], KeyValues]:
        """The block's output, and the keys (after RoPE) and values that later tokens will need."""
        tokens = hidden.shape[0]
        qkv = project(hidden, self.qkv[...])
        queries = qkv[:, :, :-2].reshape(tokens, -1, qkv.shape[-1])
        keys, values = qkv[:, :, -2], qkv[:, :, -1]
        rotation = make_rotation(positions, keys.shape[-1], self.rope)
        queries, keys = apply_rope(queries, rotation), apply_rope(keys, rotation)
        attended = attend(queries, keys, values)
        return project(attended.reshape(tokens, -1), self.out[...]), (keys, values)


def causal_attention(
    queries: Float[Array, "tokens q_heads dim"],
    keys: Float[Array, "tokens kv_heads dim"],
    values: Float[Array, "tokens kv_heads dim"],
    *,
    sm_scale: float | None = None,
) -> Float[Array, "tokens q_heads dim"]:
    """Every token attends to itself and to those before it; scores and softmax in float32.

    One whole sequence, for training and for reference; `jax.vmap` makes a batch of them.
    """
    tokens, q_heads, dim = queries.shape
    kv_heads = keys.shape[1]
    grouped = queries.reshape(tokens, kv_heads, q_heads // kv_heads, dim)
    scores = jnp.einsum("tkgd,skd->kgts", grouped, keys, preferred_element_type=jnp.float32)
    scores *= dim**-0.5 if sm_scale is None else sm_scale
    visible = jnp.tril(jnp.ones((tokens, tokens), bool))
    weights = jax.nn.softmax(jnp.where(visible, scores, -jnp.inf), axis=-1).astype(values.dtype)
    return jnp.einsum("kgts,skd->tkgd", weights, values).reshape(tokens, q_heads, dim)
