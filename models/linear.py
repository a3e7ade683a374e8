"""The one matrix product that every projection goes through, and the weights it starts from."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Key, UInt32

from muxjax.models.collectives import num_devices, own_places, sum_over_devices
from muxjax.models.quantization import Int8Weights, Weights, dequantize
from muxjax.models.sharding import Cut
from muxjax.pallas_kernels.grouped_matmul import grouped_matmul
from muxjax.pallas_kernels.int8_matmul import int8_matmul


def project(
    inputs: Float[Array, "tokens in"], weights: Weights, *, accumulate: DTypeLike | None = None
) -> Float[Array, "tokens *out"]:
    """inputs @ weights[in, *out], whatever number of axes the output has.

    The result has the inputs' dtype, or that of `accumulate`.
    """
    if isinstance(weights, Int8Weights):
        values = weights.values.reshape(weights.shape[0], -1)
        product = int8_matmul(inputs, values, weights.scales.ravel(), dtype=accumulate)
        return product.reshape(inputs.shape[0], *weights.shape[1:])
    if inputs.shape[0] == 1 and inputs.dtype == jnp.bfloat16:
        # XLA's CPU backend runs a bf16 product of one row several times slower than one of two.
        return project(jnp.concatenate([inputs, inputs]), weights, accumulate=accumulate)[:1]
    return jnp.tensordot(inputs, weights, axes=1, preferred_element_type=accumulate)


def project_one(
    inputs: Float[Array, "tokens in"], stack: Weights, index: Int[Array, ""]
) -> Float[Array, "tokens *out"]:
    """inputs @ stack[index], where the stack is [groups, in, *out]."""
    if not isinstance(stack, Int8Weights):
        return project(inputs, stack[index])
    groups, inner, *out = stack.shape
    values, scales = stack.values.reshape(groups, inner, -1), stack.scales.reshape(groups, -1)
    return int8_matmul(inputs, values, scales, index).reshape(-1, *out)


def project_grouped(
    inputs: Float[Array, "tokens in"], weights: Weights, group_sizes: Int[Array, " groups"]
) -> Float[Array, "tokens out"]:
    """Each group's rows, which follow each other, times its own matrix of weights[groups, in, out]."""
    if isinstance(weights, Int8Weights):
        return grouped_matmul(inputs, weights.values, group_sizes, weights.scales[:, 0])
    return grouped_matmul(inputs, weights, group_sizes)


def look_up(rows: Weights, ids: Int[Array, " tokens"]) -> Float[Array, "tokens hidden"]:
    """rows[ids], in the weights' own dtype, of rows that may be spread over devices."""
    if num_devices() == 1:
        return dequantize(rows[ids])
    size = rows.shape[0]
    places = own_places(ids, size)
    own = dequantize(rows[jnp.minimum(places, size - 1)])
    return sum_over_devices(jnp.where(places[:, None] < size, own, 0))


def add_bias(outputs: Float[Array, "tokens *out"], bias: nnx.Param[Array] | None) -> Float[Array, "tokens *out"]:
    """What a projection gave, with its bias if it has one."""
    return outputs if bias is None else outputs + bias[...]


def init_bias(shape: Sequence[int], dtype: DTypeLike, *, cut: Cut | None = None) -> nnx.Param[Array]:
    """A parameter of zeros; `cut` as of init_weights."""
    return nnx.Param(jnp.zeros(tuple(shape), dtype), cut=cut)


def init_weights(
    rngs: nnx.Rngs,
    shape: Sequence[int],
    dtype: DTypeLike,
    *,
    stddev: float = 0.02,
    in_axis: int | None = 0,
    cut: Cut | None = None,
) -> nnx.Param[Array]:
    """A parameter drawn uniformly, with mean 0 and the given standard deviation.

    `in_axis` is the axis that products sum over: quantization gives each channel of the others a scale of its own. It
    is 1 for a stack of experts `[experts, in, out]`, and for an embedding `[vocab, hidden]`, whose rows are looked up;
    None is for weights that are not to be quantized, such as a router's.

    `cut` is how devices share it; without one, the model runs on one device only.
    """
    values = _hashed_uniform(rngs.params(), tuple(shape), dtype, stddev * math.sqrt(3))
    return nnx.Param(values, in_axis=in_axis, cut=cut)


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
