"""The one matrix product that every projection goes through."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


def project(inputs: Float[Array, "tokens in"], weights: Float[Array, "in *out"]) -> Float[Array, "tokens *out"]:
    """inputs @ weights, whatever number of axes the output has."""
    if inputs.shape[0] == 1 and inputs.dtype == jnp.bfloat16:
        # XLA's CPU backend runs a bf16 product of one row ten times slower than one of two.
        return project(jnp.concatenate([inputs, inputs]), weights)[:1]
    return jnp.tensordot(inputs, weights, axes=1)


def init_weights(rngs: nnx.Rngs, shape: Sequence[int], dtype: jnp.dtype, *, stddev: float = 0.02) -> nnx.Param[Array]:
    """A parameter drawn from a normal distribution."""
    return nnx.Param(jax.random.normal(rngs.params(), tuple(shape), dtype) * jnp.asarray(stddev, dtype))
