"""Root mean square normalisation."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float


class RMSNorm(nnx.Module):
    """x / rms(x) * scale (Zhang and Sennrich 2019), computed in float32."""

    def __init__(self, size: int, *, eps: float, dtype: DTypeLike) -> None:
        self.eps = eps
        self.scale = nnx.Param(jnp.ones((size,), dtype))

    def __call__(self, hidden: Float[Array, "tokens hidden"]) -> Float[Array, "tokens hidden"]:
        wide = hidden.astype(jnp.float32)
        mean_square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
        normed = wide * jax.lax.rsqrt(mean_square + self.eps)
        return (normed * self.scale[...].astype(jnp.float32)).astype(hidden.dtype)
