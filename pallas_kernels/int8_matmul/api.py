"""The public function: checks, and picks the implementation."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Int8

from muxjax.pallas_kernels.implementation import Implementation, run_first_supported
from muxjax.pallas_kernels.int8_matmul.cpu import int8_matmul_cpu
from muxjax.pallas_kernels.int8_matmul.xla import int8_matmul_xla

IMPLEMENTATIONS: Mapping[Implementation, Callable[..., Array]] = MappingProxyType(
    {"cpu": int8_matmul_cpu, "xla": int8_matmul_xla}
)


def int8_matmul(
    rows: Float[Array, "rows in"],
    values: Int8[Array, "*groups in out"],
    scales: Float[Array, "*groups out"],
    group: Int[Array, ""] | None = None,
    *,
    dtype: DTypeLike | None = None,
    implementation: Implementation | None = None,
) -> Float[Array, "rows out"]:
    """rows @ (values * scales), without the weights in any wider dtype in memory where that can be.

    Args:
        rows: what is multiplied.
        values: the weights, without their scales; with `group` a stack of them, of which one is taken.
        scales: of each output channel.
        group: the index in the stack.
        dtype: of the result; None is that of rows.
        implementation: "cpu", "xla", or None for the best one here.

    Returns:
        The product; summed up in float32.

    Raises:
        ValueError: shapes or dtypes do not fit.
        NotImplementedError: the implementation asked for does not support these inputs.
    """
    if group is None:
        values, scales, group = values[None], scales[None], jnp.int32(0)
    if rows.ndim != 2 or values.ndim != 3 or rows.shape[1] != values.shape[1]:
        raise ValueError(f"rows {rows.shape} and values {values.shape[1:]} must be [rows, in] and [in, out]")
    if values.dtype != jnp.int8 or scales.dtype != jnp.float32:
        raise ValueError(f"values and scales must be int8 and float32, not {values.dtype}, {scales.dtype}")
    if scales.shape != (values.shape[0], values.shape[2]):
        raise ValueError(f"scales {scales.shape[1:]} must be [{values.shape[2]}] as values {values.shape[1:]}")
    result_dtype = jnp.dtype(rows.dtype if dtype is None else dtype)
    return run_first_supported(IMPLEMENTATIONS, implementation, rows, values, scales, group, dtype=result_dtype)
