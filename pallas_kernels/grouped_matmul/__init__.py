"""Products of groups of rows, each with a matrix of its own: what experts are."""

from muxjax.pallas_kernels.grouped_matmul.api import grouped_matmul

__all__ = ["grouped_matmul"]
