"""The call of the C kernel that paged_decode and ragged_prefill share."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from muxjax.pallas_kernels.cpu.library import native_kernels, target_name

DTYPES = (jnp.float32, jnp.bfloat16, jnp.float16)
LANE_MULTIPLE, MAX_LANE = 16, 256
NO_WINDOW = np.iinfo(np.int32).max


def attention_cpu(
    queries: Float[Array, "rows q_heads lane"],
    keys: Float[Array, "rows kv_heads lane"],
    values: Float[Array, "rows kv_heads lane"],
    pool: Float[Array, "blocks 2 page_tokens lane"],
    page_blocks: Int[Array, "pages kv_heads"],
    page_table: Int[Array, "seqs max_pages"],
    query_start_loc: Int[Array, " seqs_plus_1"],
    kv_lens: Int[Array, " seqs"],
    *,
    sm_scale: float,
    sliding_window: int | None,
    soft_cap: float | None,
) -> Float[Array, "rows q_heads lane"]:
    """As `ragged_prefill`; besides, a sequence of length 0 may have rows, whose output is zero.

    A table that points outside of the pool fails the program's run with an error that names the entry.

    Raises:
        NotImplementedError: no C kernels here, or not for this dtype or head size.
    """
    kernels = native_kernels()
    if not kernels.available:
        raise NotImplementedError(kernels.detail)
    if queries.dtype not in DTYPES or pool.dtype not in DTYPES:
        raise NotImplementedError(
            f"the C kernels take float32, bfloat16 and float16, not {queries.dtype}, {pool.dtype}"
        )
    if pool.shape[-1] % LANE_MULTIPLE or pool.shape[-1] > MAX_LANE:
        raise NotImplementedError(
            f"the C kernels take heads of a multiple of {LANE_MULTIPLE}, at most {MAX_LANE}, not {pool.shape[-1]}"
        )
    call = jax.ffi.ffi_call(
        target_name("attention"), jax.ShapeDtypeStruct(queries.shape, queries.dtype), vmap_method="sequential"
    )
    tables = (table.astype(jnp.int32) for table in (page_blocks, page_table, query_start_loc, kv_lens))
    output: Float[Array, "rows q_heads lane"] = call(
        queries,
        keys,
        values,
        pool,
        *tables,
        sm_scale=np.float32(sm_scale),
        sliding_window=np.int64(NO_WINDOW if sliding_window is None else sliding_window),
        soft_cap=np.float32(0 if soft_cap is None else soft_cap),
    )
    return output
