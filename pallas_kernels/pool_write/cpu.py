"""pool_write in C, on the pool's own memory."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from muxjax.pallas_kernels.cpu.attention import DTYPES
from muxjax.pallas_kernels.cpu.library import native_kernels, target_name


def pool_write_cpu(
    pool: Float[Array, "blocks 2 block_tokens lane"],
    keys: Float[Array, "layers rows kv_heads dim"],
    values: Float[Array, "layers rows kv_heads dim"],
    page_blocks: Int[Array, "layers pages kv_heads"],
    slot_mapping: Int[Array, " rows"],
) -> Float[Array, "blocks 2 block_tokens lane"]:
    """See `pool_write`.

    A slot outside of the pool fails the program's run with an error that names it, before anything is written.

    Raises:
        NotImplementedError: no C kernels here, or not for this dtype.
    """
    kernels = native_kernels()
    if not kernels.available:
        raise NotImplementedError(kernels.detail)
    if pool.dtype not in DTYPES:
        raise NotImplementedError(f"the C kernels take float32, bfloat16 and float16, not {pool.dtype}")
    call = jax.ffi.ffi_call(
        target_name("pool_write"),
        jax.ShapeDtypeStruct(pool.shape, pool.dtype),
        vmap_method="sequential",
        input_output_aliases={0: 0},
    )
    tables = page_blocks.astype(jnp.int32), slot_mapping.astype(jnp.int32)
    written: Float[Array, "blocks 2 block_tokens lane"] = call(pool, keys, values, *tables)
    return written
