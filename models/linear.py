"""The one matrix product that every projection goes through, and the weights it starts from."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key, UInt32


def project(
    inputs: Float[Array, "tokens in"], weights: Float[Array, "in *out"], *, accumulate: DTypeLike | None = None
) -> Float[Array, "tokens *out"]:
    """inputs @ weights, whatever number of axes the output has; in the inputs' dtype, or in that of `accumulate`."""
    if inputs.shape[0] == 1 and inputs.dtype == jnp.bfloat16:
        # XLA's CPU backend runs a bf16 product of one row several times slower than one of two.
        return project(jnp.concatenate([inputs, inputs]), weights, accumulate=accumulate)[:1]
    return jnp.tensordot(inputs, weights, axes=1, preferred_element_type=accumulate)


def add_bias(outputs: Float[Array, "tokens *out"], bias: nnx.Param[Array] | None) -> Float[Array, "tokens *out"]:
    """What a projection gave, with its bias if it has one."""
    return outputs if bias is None else outputs + bias[...]


def init_bias(shape: Sequence[int], dtype: DTypeLike) -> nnx.Param[Array]:
    """A parameter of zeros."""
    return nnx.Param(jnp.zeros(tuple(shape), dtype))


def init_weights(rngs: nnx.Rngs, shape: Sequence[int], dtype: DTypeLike, *, stddev: float = 0.02) -> nnx.Param[Array]:
    """A parameter drawn uniformly, with mean 0 and the given standard deviation."""
    return nnx.Param(_hashed_uniform(rngs.params(), tuple(shape), dtype, stddev * math.sqrt(3)))


@functools.partial(jax.jit, static_argnames=("shape", "dtype", "bound"))
def _hashed_uniform(key: Key[Array, ""], shape: tuple[int, ...], dtype: DTypeLike, bound: float) -> Float[Array, "..."]:
    """A hash of each element's position: drawn and compiled ten times faster on a CPU than jax.random.normal."""
    positions = jax.lax.iota(jnp.uint32, math.prod(shape)).reshape(shape)
    bits = _mix(_mix(positions) ^ jax.random.bits(key, (), jnp.uint32))
    return (bits.astype(jnp.int32).astype(jnp.float32) * (bound / 2**31)).astype(dtype)


def _mix(bits: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """MurmurHash3's finalizer (Appleby): every bit of the input flips each bit of the output half of the time."""
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B)
    bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
    return bits ^ (bits >> 16)
