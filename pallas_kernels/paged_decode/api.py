"""The public function: checks, pads odd head sizes, picks the implementation."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from jaxtyping import Array, Float, Int

from muxjax.pallas_kernels.attention_inputs import check_attention_inputs, pad_heads
from muxjax.pallas_kernels.implementation import Implementation, run_first_supported
from muxjax.pallas_kernels.paged_decode.cpu import paged_decode_cpu
from muxjax.pallas_kernels.paged_decode.mosaic import paged_decode_mosaic
from muxjax.pallas_kernels.paged_decode.triton import paged_decode_triton
from muxjax.pallas_kernels.paged_decode.xla import paged_decode_xla

IMPLEMENTATIONS: Mapping[Implementation, Callable[..., Array]] = MappingProxyType(
    {"cpu": paged_decode_cpu, "mosaic": paged_decode_mosaic, "triton": paged_decode_triton, "xla": paged_decode_xla}
)


def paged_decode(
    queries: Float[Array, "seqs q_heads dim"],
    keys: Float[Array, "seqs kv_heads dim"],
    values: Float[Array, "seqs kv_heads dim"],
    pool: Float[Array, "blocks 2 page_tokens lane"],
    page_blocks: Int[Array, "pages kv_heads"],
    page_table: Int[Array, "seqs max_pages"],
    kv_lens: Int[Array, " seqs"],
    *,
    sm_scale: float,
    sliding_window: int | None = None,
    soft_cap: float | None = None,
    implementation: Implementation | None = None,
) -> Float[Array, "seqs q_heads dim"]:
    """Attention of one new token per sequence over itself and the sequence's past.

    Only the past is read from the pool; the new token's own key and value come as arguments. Token t of sequence s
    and KV head h lies in block `page_blocks[page_table[s, t // page_tokens], h]` at offset `t % page_tokens`, its key
    in half 0 and its value in half 1. Nothing else of the pool influences the result, whatever it holds.

    Args:
        queries: the new tokens' queries; query head h reads KV head `h // (q_heads // kv_heads)`.
        keys: the new tokens' keys, rounded to the pool's dtype as they will be in it.
        values: the new tokens' values, likewise.
        pool: an LLM's view of the pool; lane is at least dim, its rest zero.
        page_blocks: one layer's table of pages.
        page_table: the pages of each sequence, in order; entries past its length are not used.
        kv_lens: tokens of each sequence, the new one counted; 0 marks a padding row, whose output is zero.
        sm_scale: what scores are multiplied by, usually dim ** -0.5.
        sliding_window: how many of the last tokens are seen, the new one counted; None for all.
        soft_cap: scores become `soft_cap * tanh(score / soft_cap)`; None leaves them.
        implementation: "cpu", "mosaic", "triton", "xla", or None for the best one here.

    Returns:
        Attention in the dtype of queries; computed in float32.

    Raises:
        ValueError: shapes or options do not fit.
        NotImplementedError: the implementation asked for does not support these inputs.
    """
    check_attention_inputs(queries, keys, values, pool, page_blocks, sliding_window, soft_cap)
    lane = pool.shape[-1]
    attention = run_first_supported(
        IMPLEMENTATIONS,
        implementation,
        pad_heads(queries, lane),
        pad_heads(keys.astype(pool.dtype), lane),
        pad_heads(values.astype(pool.dtype), lane),
        pool,
        page_blocks,
        page_table,
        kv_lens,
        sm_scale=sm_scale,
        sliding_window=sliding_window,
        soft_cap=soft_cap,
    )
    return attention[..., : queries.shape[-1]]
