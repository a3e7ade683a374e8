"""int8_matmul in C, for few rows: weights are converted in the nearest cache."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Int8

from muxjax.pallas_kernels.cpu.attention import DTYPES
from muxjax.pallas_kernels.cpu.library import native_kernels, target_name

MAX_ROWS = 64  # of more, in bfloat16, XLA makes a copy and still is faster, where the processor computes in bfloat16


def int8_matmul_cpu(
    rows: Float[Array, "rows in"],
    values: Int8[Array, "groups in out"],
    scales: Float[Array, "groups out"],
    group: Int[Array, ""],
    *,
    dtype: jnp.dtype,
) -> Float[Array, "rows out"]:
    """See `int8_matmul`; the group's weights are read where they are.

    Raises:
        NotImplementedError: no C kernels here, or not for these dtypes or so many rows.
    """
    kernels = native_kernels()
    if not kernels.available:
        raise NotImplementedError(kernels.detail)
    if rows.dtype not in DTYPES or dtype not in DTYPES:
        raise NotImplementedError(f"the C kernels take float32, bfloat16 and float16, not {rows.dtype}, {dtype}")
    if rows.shape[0] > MAX_ROWS:
        raise NotImplementedError(f"the C kernel takes at most {MAX_ROWS} rows, not {rows.shape[0]}")
    call = jax.ffi.ffi_call(
        target_name("int8_matmul"),
        jax.ShapeDtypeStruct((rows.shape[0], values.shape[2]), dtype),
        vmap_method="sequential",
    )
    product: Float[Array, "rows out"] = call(rows, values, scales, group.astype(jnp.int32))
    return product
