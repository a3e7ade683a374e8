"""The public function: checks, and picks the implementation."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from jaxtyping import Array, Float, Int, Int8

from muxjax.pallas_kernels.grouped_matmul.triton import grouped_matmul_triton
from muxjax.pallas_kernels.grouped_matmul.xla import grouped_matmul_xla
from muxjax.pallas_kernels.implementation import Implementation, run_first_supported

IMPLEMENTATIONS: Mapping[Implementation, Callable[..., Array]] = MappingProxyType(
    {"triton": grouped_matmul_triton, "xla": grouped_matmul_xla}
)


def grouped_matmul(
    rows: Float[Array, "rows in"],
    weights: Float[Array, "groups in out"] | Int8[Array, "groups in out"],
    group_sizes: Int[Array, " groups"],
    scales: Float[Array, "groups out"] | None = None,
    *,
    implementation: Implementation | None = None,
) -> Float[Array, "rows out"]:
    """Each group's rows, which follow each other, times the group's own matrix.

    Args:
        rows: those of group 0 first, then those of group 1, and so on.
        weights: of the rows' dtype, or int8.
        group_sizes: how many rows each group has; they sum up to the number of rows.
        scales: what int8 weights are multiplied by, one for each output channel.
        implementation: "triton", "xla", or None for the best one here. XLA's takes as long on GPUs as if each row were
            multiplied with all groups' matrices.

    Returns:
        The products in the dtype of rows; summed up in float32.

    Raises:
        ValueError: shapes or dtypes do not fit.
        NotImplementedError: the implementation asked for does not support these inputs.
    """
    groups, inner, columns = weights.shape
    if rows.ndim != 2 or rows.shape[1] != inner:
        raise ValueError(f"rows {rows.shape} must be [rows, {inner}] as weights {weights.shape}")
    if group_sizes.shape != (groups,):
        raise ValueError(f"group_sizes {group_sizes.shape} must be [{groups}] as weights {weights.shape}")
    if weights.dtype != (rows.dtype if scales is None else "int8"):
        raise ValueError(f"weights of {weights.dtype} must be of rows' {rows.dtype}, or int8 with scales")
    if scales is not None and scales.shape != (groups, columns):
        raise ValueError(f"scales {scales.shape} must be [{groups}, {columns}] as weights {weights.shape}")
    arrays = (rows, weights, group_sizes) if scales is None else (rows, weights, group_sizes, scales)
    return run_first_supported(IMPLEMENTATIONS, implementation, *arrays)
