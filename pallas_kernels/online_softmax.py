"""Attention over a stream of tiles, each seen once: the online softmax of FlashAttention (Dao et al. 2022, Alg. 1)."""

import math
from typing import NamedTuple, Self

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

LOG2_E = math.log2(math.e)


def attention_scores(
    queries: Float[Array, "*batch rows dim"],
    keys: Float[Array, "*batch tokens dim"],
    sm_scale: float,
    soft_cap: float | None,
) -> Float[Array, "*batch rows tokens"]:
    """`sm_scale * q.k` in float32, squashed into (-soft_cap, soft_cap) by tanh when a cap is given."""
    products = jnp.einsum("...rd,...td->...rt", queries, keys, precision=lax.Precision.HIGHEST)
    scores = products * jnp.float32(sm_scale)
    return scores if soft_cap is None else soft_cap * jnp.tanh(scores / soft_cap)


def log2_scores(products: Float[Array, "*shape"], sm_scale: float, soft_cap: float | None) -> Float[Array, "*shape"]:
    """`attention_scores` of products of queries and keys, times log2(e): GPUs have exp2, not exp."""
    if soft_cap is None:
        return products * (sm_scale * LOG2_E)
    return jnp.tanh(products * (sm_scale / soft_cap)) * (soft_cap * LOG2_E)


class OnlineSoftmax(NamedTuple):
    """The attention of some rows over the tokens seen so far, all in float32.

    Attributes:
        peak: the largest score; -inf before the first token.
        total: sum of exp(score - peak).
        weighted: sum of exp(score - peak) * value.
    """

    peak: Float[Array, "*batch rows"]
    total: Float[Array, "*batch rows"]
    weighted: Float[Array, "*batch rows dim"]

    @classmethod
    def empty(cls, *shape: int) -> Self:
        """No token seen; `shape` is that of `weighted`."""
        rows = shape[:-1]
        return cls(jnp.full(rows, -jnp.inf), jnp.zeros(rows), jnp.zeros(shape))

    def add(
        self,
        scores: Float[Array, "*batch rows tokens"],
        visible: Bool[Array, "*#batch rows tokens"],
        values: Float[Array, "*batch tokens dim"],
    ) -> Self:
        """Adds a tile of tokens. What no row sees may hold anything, NaN too: it is dropped, not multiplied by zero."""
        scores = jnp.where(visible, scores, -jnp.inf)
        values = jnp.where(visible.any(axis=-2)[..., None], values, 0)
        peak = jnp.maximum(self.peak, scores.max(axis=-1))
        shift = jnp.where(peak == -jnp.inf, 0, peak)  # -inf - -inf is NaN
        weights = jnp.exp(scores - shift[..., None])
        decay = jnp.exp(self.peak - shift)
        products = jnp.einsum("...rt,...td->...rd", weights, values, precision=lax.Precision.HIGHEST)
        return type(self)(peak, self.total * decay + weights.sum(axis=-1), self.weighted * decay[..., None] + products)

    def attention(self) -> Float[Array, "*batch rows dim"]:
        """The weighted mean of the values; zero for rows that saw no token."""
        return self.weighted / jnp.where(self.total == 0, 1, self.total)[..., None]
