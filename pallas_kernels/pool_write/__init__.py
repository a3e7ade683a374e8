"""Writing new keys and values of all layers into the pool."""

from muxjax.pallas_kernels.pool_write.api import pool_write

__all__ = ["pool_write"]
