"""Normalisation of the residual stream."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from muxjax.models.collectives import num_devices, sum_over_devices
from muxjax.models.config import DecoderConfig
from muxjax.models.sharding import Cut


class RMSNorm(nnx.Module):
    """x / rms(x) * scale (Zhang and Sennrich 2019), computed in float32; Gemma's multiplies by 1 + scale."""

    def __init__(
        self, size: int, *, eps: float, dtype: DTypeLike, adds_one: bool = False, cut: Cut = Cut.WHOLE
    ) -> None:
        """`cut` is how devices share the scale, and so what is normalised."""
        self.eps = eps
        self.adds_one = adds_one
        self.is_cut = cut is not Cut.WHOLE
        self.scale = nnx.Param(jnp.zeros((size,), dtype) if adds_one else jnp.ones((size,), dtype), cut=cut)

    def __call__(self, hidden: Float[Array, "*rows size"]) -> Float[Array, "*rows size"]:
        wide = hidden.astype(jnp.float32)
        mean_square = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
        if self.is_cut:  # of equal parts: the mean of their means
            mean_square = sum_over_devices(mean_square) / num_devices()
        normed = wide * jax.lax.rsqrt(mean_square + self.eps)
        scale = self.scale[...].astype(jnp.float32)
        return (normed * (1 + scale if self.adds_one else scale)).astype(hidden.dtype)


class LayerNorm(nnx.Module):
    """(x - mean) / deviation * scale + bias (Ba et al. 2016), computed in float32."""

    def __init__(self, size: int, *, eps: float, dtype: DTypeLike) -> None:
        self.eps = eps
        self.scale = nnx.Param(jnp.ones((size,), dtype), cut=Cut.WHOLE)
        self.bias = nnx.Param(jnp.zeros((size,), dtype), cut=Cut.WHOLE)

    def __call__(self, hidden: Float[Array, "*rows size"]) -> Float[Array, "*rows size"]:
        wide = hidden.astype(jnp.float32)
        centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
        normed = centred * jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=-1, keepdims=True) + self.eps)
        scaled = normed * self.scale[...].astype(jnp.float32) + self.bias[...].astype(jnp.float32)
        return scaled.astype(hidden.dtype)


def make_norm(config: DecoderConfig, *, dtype: DTypeLike, size: int | None = None) -> RMSNorm | LayerNorm:
    """The configuration's kind of norm, by default of the residual stream."""
    size = config.hidden_size if size is None else size
    if config.norm == "layer":
        return LayerNorm(size, eps=config.norm_eps, dtype=dtype)
    return RMSNorm(size, eps=config.norm_eps, dtype=dtype, adds_one=config.norm_adds_one)
