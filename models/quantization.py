"""Weights kept in eight bits: symmetric, with one scale per output channel."""

import functools
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int8

LARGEST = 127  # of int8, without -128, so that the range is symmetric


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Int8Weights:
    """values * scales: a matrix, or a stack of them, in a quarter of float32's memory.

    Attributes:
        values: as the weights are shaped.
        scales: the same, with size 1 along the axis that products sum over.
        dtype: of the weights that they stand for.
    """

    values: Int8[Array, "..."]
    scales: Float[Array, "..."]
    dtype: DTypeLike = field(metadata={"static": True})

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weights."""
        return self.values.shape

    @property
    def T(self) -> "Int8Weights":  # noqa: N802  (as arrays call it)
        """Transposed."""
        return Int8Weights(self.values.T, self.scales.T, self.dtype)

    def reshape(self, *shape: int) -> "Int8Weights":
        """With the axes after the second one, which products do not sum over, taken together or apart."""
        values = self.values.reshape(*shape)
        return Int8Weights(values, self.scales.reshape(*self.scales.shape[:2], *values.shape[2:]), self.dtype)

    def __getitem__(self, index: Any) -> "Int8Weights":
        """A part, cut along axes that products do not sum over."""
        return Int8Weights(self.values[index], self.scales[index], self.dtype)


Weights = Float[Array, "..."] | Int8Weights
"""What a product can be taken with."""


@functools.partial(jax.jit, static_argnames="in_axis")
def quantize(weights: Float[Array, "..."], in_axis: int) -> Int8Weights:
    """The nearest weights in eight bits: off by at most half a scale, the largest of each output channel exact."""
    return quantize_to(weights, largest_weights(weights, in_axis))


def largest_weights(weights: Float[Array, "..."], in_axis: int) -> Float[Array, "..."]:
    """Of each output channel, in magnitude; `in_axis` has size 1."""
    return jnp.max(jnp.abs(weights.astype(jnp.float32)), axis=in_axis, keepdims=True)


def quantize_to(weights: Float[Array, "..."], largest: Float[Array, "..."]) -> Int8Weights:
    """The weights, or some of each output channel, in eight bits; `largest` are those that become LARGEST."""
    scales = jnp.where(largest > 0, largest, 1) / LARGEST
    return Int8Weights(jnp.round(weights.astype(jnp.float32) / scales).astype(jnp.int8), scales, weights.dtype)


def dequantize(weights: Weights) -> Float[Array, "..."]:
    """The weights in their own dtype; those that are not quantized, as they are."""
    if not isinstance(weights, Int8Weights):
        return weights
    return (weights.values * weights.scales).astype(weights.dtype)
