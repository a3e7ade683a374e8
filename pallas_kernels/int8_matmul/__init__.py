"""Products with weights that are kept in eight bits."""

from muxjax.pallas_kernels.int8_matmul.api import int8_matmul

__all__ = ["int8_matmul"]
