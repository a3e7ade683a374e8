"""The definition of grouped_matmul, one group at a time, in NumPy."""

import numpy as np
from jaxtyping import Float64, Int, Num


def grouped_matmul_reference(
    rows: Num[np.ndarray, "rows in"],
    weights: Num[np.ndarray, "groups in out"],
    group_sizes: Int[np.ndarray, " groups"],
    scales: Num[np.ndarray, "groups out"] | None = None,
) -> Float64[np.ndarray, "rows out"]:
    """See `grouped_matmul`; all of it in float64."""
    wide = weights.astype(np.float64)
    if scales is not None:
        wide *= scales[:, None].astype(np.float64)
    parts = np.split(rows.astype(np.float64), np.cumsum(group_sizes)[:-1])
    return np.concatenate([part @ matrix for part, matrix in zip(parts, wide, strict=True)])
