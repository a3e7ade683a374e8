"""int8_matmul by XLA, which may make a copy of the weights in the dtype of rows."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Int8


def int8_matmul_xla(
    rows: Float[Array, "rows in"],
    values: Int8[Array, "groups in out"],
    scales: Float[Array, "groups out"],
    group: Int[Array, ""],
    *,
    dtype: jnp.dtype,
) -> Float[Array, "rows out"]:
    """See `int8_matmul`."""
    if rows.shape[0] == 1 and rows.dtype == jnp.bfloat16:
        # XLA's CPU backend runs a bf16 product of one row several times slower than one of two.
        return int8_matmul_xla(jnp.concatenate([rows, rows]), values, scales, group, dtype=dtype)[:1]
    wide = jnp.dot(rows, values[group].astype(rows.dtype), preferred_element_type=jnp.float32)
    return (wide * scales[group]).astype(dtype)
