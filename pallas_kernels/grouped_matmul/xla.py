"""grouped_matmul by XLA: on GPUs one product of rows that are zero for all groups but their own."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Int8


def grouped_matmul_xla(
    rows: Float[Array, "rows in"],
    weights: Float[Array, "groups in out"] | Int8[Array, "groups in out"],
    group_sizes: Int[Array, " groups"],
    scales: Float[Array, "groups out"] | None = None,
) -> Float[Array, "rows out"]:
    """See `grouped_matmul`."""
    if scales is None:
        return jax.lax.ragged_dot(rows, weights, group_sizes)
    values = weights.astype(rows.dtype)
    wide = jax.lax.ragged_dot(rows, values, group_sizes, preferred_element_type=jnp.float32)
    group = (jnp.cumsum(group_sizes) <= jnp.arange(rows.shape[0])[:, None]).sum(axis=1)
    return (wide * scales[group]).astype(rows.dtype)
