"""How far a kernel's output is from its definition in float64."""

from typing import Any

import numpy as np
from jaxtyping import Float64

_TOLERANCE = 1e-2  # of values of order one in bfloat16, whose last bit is 2**-8 there; the output is rounded once


class Agreement:
    """Gathers errors, relative where values are larger than one."""

    def __init__(self) -> None:
        self._worst = 0.0
        self._compared = 0

    def add(self, actual: Float64[np.ndarray, "*shape"], expected: Float64[np.ndarray, "*shape"]) -> None:
        """Compares some of the output; NaN is an infinite error."""
        error = np.abs(actual - expected) / np.maximum(np.abs(expected), 1)
        self._worst = max(self._worst, float(np.nan_to_num(error, nan=np.inf).max(initial=0)))
        self._compared += error.size

    def expect_finite(self, output: Float64[np.ndarray, "*shape"]) -> None:
        """All of the output must be numbers: the pool is NaN wherever a sequence's own tokens are not."""
        if not np.isfinite(output).all():
            self._worst = np.inf

    def figures(self) -> dict[str, Any]:
        """For the results."""
        is_right = self._compared > 0 and self._worst <= _TOLERANCE
        return {"is_right": is_right, "largest_error": self._worst, "compared": self._compared}
