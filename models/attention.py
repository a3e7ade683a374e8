"""Attention's projections, and plain causal attention over one whole sequence."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from muxjax.models.collectives import sum_over_devices
from muxjax.models.config import DecoderConfig
from muxjax.models.linear import add_bias, init_bias, init_weights, project
from muxjax.models.norm import RMSNorm
from muxjax.models.rope import Rotate
from muxjax.models.sharding import Cut

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
        qkv = (config.num_kv_heads, config.queries_per_kv + 2, config.head_dim)
        out = (config.num_heads * config.head_dim, config.hidden_size)
        self.qkv = init_weights(rngs, (config.hidden_size, *qkv), dtype, cut=Cut.GROUPS)
        self.qkv_bias = init_bias(qkv, dtype, cut=Cut.GROUPS) if config.qkv_bias else None
        self.qk_norm = None if config.qk_norm is None else QKNorm(config, dtype=dtype)
        self.out = init_weights(rngs, out, dtype, cut=Cut.ROWS)
        self.out_bias = init_bias((config.hidden_size,), dtype, cut=Cut.WHOLE) if config.out_bias else None

    def __call__(
        self, hidden: Float[Array, "tokens hidden"], rotate: Rotate, attend: Attend
    ) -> tuple[Float[Array, "tokens hidden"], KeyValues]:
        """The block's output, and the keys (after RoPE) and values that later tokens will need."""
        tokens = hidden.shape[0]
        qkv = add_bias(project(hidden, self.qkv[...]), self.qkv_bias)
        queries = qkv[:, :, :-2].reshape(tokens, -1, qkv.shape[-1])
        keys, values = qkv[:, :, -2], qkv[:, :, -1]
        if self.qk_norm is not None:
            queries, keys = self.qk_norm(queries, keys)
        queries, keys = rotate(queries), rotate(keys)
        attended = attend(queries, keys, values)
        projected = sum_over_devices(project(attended.reshape(tokens, -1), self.out[...]))
        return add_bias(projected, self.out_bias), (keys, values)


class QKNorm(nnx.Module):
    """RMSNorm of queries and of keys: of each head by itself, or of all heads at once."""

    def __init__(self, config: DecoderConfig, *, dtype: DTypeLike) -> None:
        self.over_all_heads = config.qk_norm == "full"
        heads = (config.num_heads, config.num_kv_heads) if self.over_all_heads else (1, 1)
        cuts = (Cut.COLUMNS, Cut.KEYS) if self.over_all_heads else (Cut.WHOLE, Cut.WHOLE)
        self.queries, self.keys = (
            RMSNorm(num * config.head_dim, eps=config.norm_eps, dtype=dtype, adds_one=config.norm_adds_one, cut=cut)
            for num, cut in zip(heads, cuts, strict=True)
        )

    def __call__(
        self, queries: Float[Array, "tokens q_heads dim"], keys: Float[Array, "tokens kv_heads dim"]
    ) -> tuple[Float[Array, "tokens q_heads dim"], Float[Array, "tokens kv_heads dim"]]:
        if not self.over_all_heads:
            return self.queries(queries), self.keys(keys)
        rows = queries.shape[0]
        return (
            self.queries(queries.reshape(rows, -1)).reshape(queries.shape),
            self.keys(keys.reshape(rows, -1)).reshape(keys.shape),
        )


def causal_attention(
    queries: Float[Array, "tokens q_heads dim"],
    keys: Float[Array, "tokens kv_heads dim"],
    values: Float[Array, "tokens kv_heads dim"],
    *,
    sm_scale: float | None = None,
    sliding_window: int | None = None,
    soft_cap: float | None = None,
) -> Float[Array, "tokens q_heads dim"]:
    """Every token attends to itself and to those before it; scores and softmax in float32.

    One whole sequence, for training and for reference; `jax.vmap` makes a batch of them. The options are those of
    `ragged_prefill`; without sm_scale it is dim ** -0.5.
    """
    tokens, q_heads, dim = queries.shape
    kv_heads = keys.shape[1]
    grouped = queries.reshape(tokens, kv_heads, q_heads // kv_heads, dim)
    scores = jnp.einsum("tkgd,skd->kgts", grouped, keys, preferred_element_type=jnp.float32)
    scores = cap(scores * (dim**-0.5 if sm_scale is None else sm_scale), soft_cap)
    position = jnp.arange(tokens)
    visible = is_visible(position[:, None], position, sliding_window)
    weights = jax.nn.softmax(jnp.where(visible, scores, -jnp.inf), axis=-1).astype(values.dtype)
    return jnp.einsum("kgts,skd->tkgd", weights, values).reshape(tokens, q_heads, dim)


def is_visible(
    position: Int[Array, "*rows"], other: Int[Array, "*rows"], sliding_window: int | None
) -> Bool[Array, "*rows"]:
    """Whether the token at `position` sees the one at `other`."""
    visible = other <= position
    return visible if sliding_window is None else visible & (other > position - sliding_window)


def cap(scores: Float[Array, "*rows"], soft_cap: float | None) -> Float[Array, "*rows"]:
    """Scores squashed into (-soft_cap, soft_cap) by tanh (Gemma 2), if a cap is given."""
    return scores if soft_cap is None else soft_cap * jnp.tanh(scores / soft_cap)
