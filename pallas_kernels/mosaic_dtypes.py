"""What Mosaic's attention kernels multiply: Hopper's tensor cores take numbers of 16 bits from shared memory."""

import jax.numpy as jnp
from jaxtyping import Array

DTYPES = (jnp.bfloat16, jnp.float16)


def check_mosaic_dtypes(queries: Array, pool: Array) -> None:
    """Raises NotImplementedError unless both are bfloat16 or both float16."""
    if pool.dtype not in DTYPES or queries.dtype != pool.dtype:
        raise NotImplementedError(
            f"the Mosaic kernel takes queries and a pool that are both bfloat16 or both float16, not {queries.dtype}, "
            f"{pool.dtype}"
        )
