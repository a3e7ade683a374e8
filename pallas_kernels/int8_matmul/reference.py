"""The definition of int8_matmul, in NumPy."""

import numpy as np
from jaxtyping import Float64, Int8, Num


def int8_matmul_reference(
    rows: Num[np.ndarray, "rows in"], values: Int8[np.ndarray, "in out"], scales: Num[np.ndarray, " out"]
) -> Float64[np.ndarray, "rows out"]:
    """See `int8_matmul`; all of it in float64."""
    product: Float64[np.ndarray, "rows out"] = rows.astype(np.float64) @ values.astype(np.float64)
    return product * scales.astype(np.float64)
