"""The public function: checks, pads odd head sizes, picks the implementation."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from jaxtyping import Array, Float, Int

from muxjax.pallas_kernels.attention_inputs import check_attention_inputs, pad_heads
from muxjax.pallas_kernels.cpu.attention import attention_cpu
from muxjax.pallas_kernels.implementation import Implementation, run_first_supported
from muxjax.pallas_kernels.ragged_prefill.mosaic import ragged_prefill_mosaic
from muxjax.pallas_kernels.ragged_prefill.triton import ragged_prefill_triton
from muxjax.pallas_kernels.ragged_prefill.xla import ragged_prefill_xla

IMPLEMENTATIONS: Mapping[Implementation, Callable[..., Array]] = MappingProxyType(
    {
        "cpu": attention_cpu,
        "mosaic": ragged_prefill_mosaic,
        "triton": ragged_prefill_triton,
        "xla": ragged_prefill_xla,
    }
)


def ragged_prefill(
    queries: Float[Array, "rows q_heads dim"],
    keys: Float[Array, "rows kv_heads dim"],
    values: Float[Array, "rows kv_heads dim"],
    pool: Float[Array, "blocks 2 page_tokens lane"],
    page_blocks: Int[Array, "pages kv_heads"],
    page_table: Int[Array, "seqs max_pages"],
    query_start_loc: Int[Array, " seqs_plus_1"],
    kv_lens: Int[Array, " seqs"],
    *,
    sm_scale: float,
    sliding_window: int | None = None,
    soft_cap: float | None = None,
    implementation: Implementation | None = None,
) -> Float[Array, "rows q_heads dim"]:
    """Causal attention of each sequence's newest tokens over themselves and the sequence's past.

    Sequence s owns rows `query_start_loc[s]:query_start_loc[s + 1]`, the last of its `kv_lens[s]` tokens; the tokens
    before them are read from the pool as in `paged_decode`. Two sequences with 3 and 2 new tokens, the second one
    with 5 in the pool, in 8 rows:

        query_start_loc = [0, 3, 5]   kv_lens = [3, 7]   rows 5, 6 and 7 are padding

    Args:
        queries: query head h reads KV head `h // (q_heads // kv_heads)`.
        keys: the rows' own keys, rounded to the pool's dtype as they will be in it.
        values: the rows' own values, likewise.
        pool: an LLM's view of the pool; lane is at least dim, its rest zero.
        page_blocks: one layer's table of pages.
        page_table: the pages of each sequence, in order; entries past its length are not used.
        query_start_loc: non-decreasing, from 0; rows from its last entry on are padding, their output is zero.
        kv_lens: tokens of each sequence, its rows counted; a padding sequence has no rows and length 0.
        sm_scale: what scores are multiplied by, usually dim ** -0.5.
        sliding_window: how many of the last tokens a row sees, its own counted; None for all.
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
        query_start_loc,
        kv_lens,
        sm_scale=sm_scale,
        sliding_window=sliding_window,
        soft_cap=soft_cap,
    )
    return attention[..., : queries.shape[-1]]
