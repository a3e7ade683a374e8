"""The public function: checks, and picks the implementation."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from jaxtyping import Array, Float, Int

from muxjax.pallas_kernels.attention_inputs import lane_of
from muxjax.pallas_kernels.implementation import Implementation, run_first_supported
from muxjax.pallas_kernels.pool_write.cpu import pool_write_cpu
from muxjax.pallas_kernels.pool_write.mosaic import pool_write_mosaic
from muxjax.pallas_kernels.pool_write.triton import pool_write_triton
from muxjax.pallas_kernels.pool_write.xla import pool_write_xla

IMPLEMENTATIONS: Mapping[Implementation, Callable[..., Array]] = MappingProxyType(
    {"cpu": pool_write_cpu, "mosaic": pool_write_mosaic, "triton": pool_write_triton, "xla": pool_write_xla}
)


def pool_write(
    pool: Float[Array, "blocks 2 block_tokens lane"],
    keys: Float[Array, "layers rows kv_heads dim"],
    values: Float[Array, "layers rows kv_heads dim"],
    page_blocks: Int[Array, "layers pages kv_heads"],
    slot_mapping: Int[Array, " rows"],
    *,
    implementation: Implementation | None = None,
) -> Float[Array, "blocks 2 block_tokens lane"]:
    """Writes the keys and values of some tokens, of all layers at once, to their slots.

    In place when the pool is donated and an optimization barrier joins the keys and values with all else that the
    program computed from the pool: without it XLA may write first and keep the old pool for the readers in a copy.

    Args:
        pool: the unit's pool, or an LLM's view of it. A reshape of a donated pool would make XLA copy it, so the
            view is taken here: half a head block is `page_tokens` tokens of `lane_of(dim)` elements.
        keys: converted to the pool's dtype; what is left of a token's lane is filled up with zeros.
        values: likewise.
        page_blocks: the LLM's table of pages.
        slot_mapping: `page * page_tokens + offset` of each token; -1 for padding, which is not written. No slot twice.
        implementation: "cpu", "mosaic", "triton", "xla", or None for the best one here.

    Returns:
        The pool with the tokens in it.

    Raises:
        ValueError: shapes do not fit.
        NotImplementedError: the implementation asked for does not support these inputs.
    """
    layers, rows, kv_heads, dim = keys.shape
    if keys.shape != values.shape:
        raise ValueError(f"keys {keys.shape} and values {values.shape} must have the same shape")
    if pool.ndim != 4 or pool.shape[1] != 2 or (pool.shape[2] * pool.shape[3]) % lane_of(dim):
        raise ValueError(f"pool {pool.shape} must be [blocks, 2, block_tokens, lane], blocks of {lane_of(dim)}s")
    if page_blocks.ndim != 3 or (page_blocks.shape[0], page_blocks.shape[2]) != (layers, kv_heads):
        raise ValueError(f"page_blocks {page_blocks.shape} must be [{layers}, pages, {kv_heads}] as keys {keys.shape}")
    if slot_mapping.shape != (rows,):
        raise ValueError(f"slot_mapping {slot_mapping.shape} must be [{rows}] as keys {keys.shape}")
    return run_first_supported(
        IMPLEMENTATIONS,
        implementation,
        pool,
        keys.astype(pool.dtype),
        values.astype(pool.dtype),
        page_blocks,
        slot_mapping,
    )
