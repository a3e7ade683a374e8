"""paged_decode in Pallas's Triton dialect: flash-decoding (Dao et al. 2023), for Ampere and later.

A program attends with the queries of one KV head to one piece of a sequence; a second kernel merges the pieces.
"""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
from jaxtyping import Array, Float, Float32, Int

from muxjax.pallas_kernels.implementation import interpreted
from muxjax.pallas_kernels.multiprocessors import multiprocessors
from muxjax.pallas_kernels.online_softmax import log2_scores
from muxjax.pallas_kernels.paged_decode.pieces import Pieces, cut_into_pieces

DTYPES = (jnp.float32, jnp.bfloat16, jnp.float16)
MIN_LANE, MAX_LANE = 16, 256
MIN_ROWS, MAX_ROWS = 16, 64  # a product on tensor cores has 16 rows; the sums of more than 64 do not fit in registers
State = tuple[Array, Array, Array]  # of the online softmax: peak, total and weighted


@dataclass(frozen=True, slots=True)
class Tuning:
    """How a launch is laid out.

    Attributes:
        tile_tokens: tokens that a program reads at a time, a power of two.
        warps: of a program.
        stages: of the loop over tiles. With 4, table entries are read two tiles ahead, keys and values one.
        programs: wanted for each multiprocessor.
        merged_pieces: pieces that are merged at a time, a power of two.
    """

    tile_tokens: int
    warps: int = 4
    stages: int = 4
    programs: int = 4
    merged_pieces: int = 16


def tuning(lane: int, itemsize: int) -> Tuning:
    """Tiles of 32 KiB, keys and values together: with four programs, 128 KiB are on their way to a multiprocessor."""
    return Tuning(tile_tokens=max(16 * 1024 // (lane * itemsize), 16))


def paged_decode_triton(
    queries: Float[Array, "seqs q_heads lane"],
    keys: Float[Array, "seqs kv_heads lane"],
    values: Float[Array, "seqs kv_heads lane"],
    pool: Float[Array, "blocks 2 page_tokens lane"],
    page_blocks: Int[Array, "pages kv_heads"],
    page_table: Int[Array, "seqs max_pages"],
    kv_lens: Int[Array, " seqs"],
    *,
    sm_scale: float,
    sliding_window: int | None,
    soft_cap: float | None,
    layout: Tuning | None = None,
) -> Float[Array, "seqs q_heads lane"]:
    """See `paged_decode`.

    Raises:
        NotImplementedError: no kernel for this dtype, head size or number of query heads per KV head.
    """
    _check_supported(queries, keys, pool)
    (seqs, q_heads, lane), kv_heads = queries.shape, keys.shape[1]
    layout = layout or tuning(lane, pool.dtype.itemsize)
    wanted = pl.cdiv(layout.programs * multiprocessors(), kv_heads)
    pieces = cut_into_pieces(kv_lens, sliding_window, wanted=wanted, unit_tokens=layout.tile_tokens)
    parts = (pieces.owner.shape[0], q_heads)
    call = functools.partial(pl.pallas_call, interpret=interpreted())
    attention_of_pieces = call(
        functools.partial(_attend_to_piece, tile_tokens=layout.tile_tokens, sm_scale=sm_scale, soft_cap=soft_cap),
        grid=(kv_heads, parts[0]),
        out_shape=[jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (parts, parts, (*parts, lane))],
        compiler_params=plgpu.CompilerParams(num_warps=layout.warps, num_stages=layout.stages),
        name="paged_decode",
    )(pieces, queries, keys, values, pool, page_blocks, page_table)
    attention: Array = call(
        functools.partial(_merge_pieces, tile_pieces=layout.merged_pieces),
        grid=(q_heads, seqs),
        out_shape=jax.ShapeDtypeStruct(queries.shape, queries.dtype),
        compiler_params=plgpu.CompilerParams(num_warps=layout.warps),
        name="paged_decode_merge",
    )(pieces.starts, kv_lens, *attention_of_pieces)
    return attention


def _check_supported(queries: Array, keys: Array, pool: Array) -> None:
    lane, group = pool.shape[-1], queries.shape[1] // keys.shape[1]
    if queries.dtype not in DTYPES or pool.dtype not in DTYPES:
        raise NotImplementedError(
            f"the Triton kernel takes float32, bfloat16 and float16, not {queries.dtype}, {pool.dtype}"
        )
    if not MIN_LANE <= lane <= MAX_LANE or lane & (lane - 1):
        raise NotImplementedError(
            f"the Triton kernel takes pools with heads of a power of two from {MIN_LANE} to {MAX_LANE}, not {lane}"
        )
    if group > MAX_ROWS:
        raise NotImplementedError(f"the Triton kernel takes at most {MAX_ROWS} query heads per KV head, not {group}")


def _attend_to_piece(
    pieces: Pieces,
    queries_ref: jax.Ref,
    keys_ref: jax.Ref,
    values_ref: jax.Ref,
    pool_ref: jax.Ref,
    page_blocks_ref: jax.Ref,
    page_table_ref: jax.Ref,
    peak_ref: jax.Ref,
    total_ref: jax.Ref,
    weighted_ref: jax.Ref,
    *,
    tile_tokens: int,
    sm_scale: float,
    soft_cap: float | None,
) -> None:
    """Writes the attention of one KV head's queries to one piece; scores are logarithms to base 2."""
    kv_head, piece = pl.program_id(0), pl.program_id(1)
    seqs, q_heads, lane = queries_ref.shape
    group, page_tokens = q_heads // keys_ref.shape[1], pool_ref.shape[2]
    row, column = jnp.arange(max(MIN_ROWS, pl.next_power_of_2(group))), jnp.arange(lane)[None]
    q_head, is_query = kv_head * group + row, row < group
    query_mask = jnp.broadcast_to(is_query[:, None], (row.size, lane))
    dtype = jnp.promote_types(queries_ref.dtype, pool_ref.dtype)
    seq = pieces.owner[piece]

    @pl.when(seq < seqs)
    def _attend() -> None:
        begin, end = pieces.begin[piece], pieces.end[piece]
        queries = plgpu.load(queries_ref.at[seq, q_head[:, None], column], mask=query_mask, other=0).astype(dtype)

        def add_tile(index: Int[Array, ""], state: State) -> State:
            peak, total, weighted = state
            token = begin + index * tile_tokens + jnp.arange(tile_tokens)
            visible = token < end
            page = plgpu.load(page_table_ref.at[seq, token // page_tokens], mask=visible, other=0)
            block = plgpu.load(page_blocks_ref.at[page, kv_head], mask=visible, other=0)[:, None]
            offset = (token % page_tokens)[:, None]
            mask = jnp.broadcast_to(visible[:, None], (tile_tokens, lane))
            keys, values = (
                plgpu.load(pool_ref.at[block, half, offset, column], mask=mask, other=0).astype(dtype)
                for half in (0, 1)
            )
            scores = jnp.where(visible, log2_scores(_product(queries, keys.T), sm_scale, soft_cap), -jnp.inf)
            new_peak = jnp.maximum(peak, scores.max(axis=1))
            weights, decay = jnp.exp2(scores - new_peak[:, None]), jnp.exp2(peak - new_peak)
            added = _product(weights.astype(dtype), values)
            return new_peak, total * decay + weights.sum(axis=1), weighted * decay[:, None] + added

        own_key, own_value = (ref[seq, kv_head].astype(jnp.float32) for ref in (keys_ref, values_ref))
        own_score = log2_scores((queries.astype(jnp.float32) * own_key).sum(axis=1), sm_scale, soft_cap)
        is_first = piece == pieces.starts[seq]
        start = (
            jnp.where(is_first, own_score, -jnp.inf),
            jnp.where(is_first, jnp.ones_like(own_score), 0),
            jnp.where(is_first, jnp.broadcast_to(own_value, query_mask.shape), 0),
        )
        peak, total, weighted = lax.fori_loop(0, pl.cdiv(end - begin, tile_tokens), add_tile, start)
        plgpu.store(peak_ref.at[piece, q_head], peak, mask=is_query)
        plgpu.store(total_ref.at[piece, q_head], total, mask=is_query)
        plgpu.store(weighted_ref.at[piece, q_head[:, None], column], weighted, mask=query_mask)


def _product(left: Float[Array, "rows inner"], right: Float[Array, "inner columns"]) -> Float32[Array, "rows columns"]:
    """In float32, and not in TF32, where the inputs are; others have products that float32 holds exactly."""
    return jnp.dot(left, right, precision=lax.Precision.HIGHEST, preferred_element_type=jnp.float32)


def _merge_pieces(
    starts_ref: jax.Ref,
    kv_lens_ref: jax.Ref,
    peak_ref: jax.Ref,
    total_ref: jax.Ref,
    weighted_ref: jax.Ref,
    output_ref: jax.Ref,
    *,
    tile_pieces: int,
) -> None:
    """Writes the attention of one query head from that of its sequence's pieces; a padding row's is zero."""
    q_head, seq = pl.program_id(0), pl.program_id(1)
    lane = output_ref.shape[2]
    column = jnp.arange(lane)[None]
    start, end = starts_ref[seq], starts_ref[seq + 1]

    def add_tile(index: Int[Array, ""], state: State) -> State:
        peak, total, weighted = state
        piece = start + index * tile_pieces + jnp.arange(tile_pieces)
        is_own = piece < end
        peaks = plgpu.load(peak_ref.at[piece, q_head], mask=is_own, other=-jnp.inf)
        totals = plgpu.load(total_ref.at[piece, q_head], mask=is_own, other=0)
        mask = jnp.broadcast_to(is_own[:, None], (tile_pieces, lane))
        weighteds = plgpu.load(weighted_ref.at[piece[:, None], q_head, column], mask=mask, other=0)
        new_peak = jnp.maximum(peak, peaks.max())
        decay, factor = jnp.exp2(peak - new_peak), jnp.exp2(peaks - new_peak)
        added = (weighteds * factor[:, None]).sum(axis=0)
        return new_peak, total * decay + (totals * factor).sum(), weighted * decay + added

    nothing = (jnp.float32(-jnp.inf), jnp.float32(0), jnp.zeros(lane, jnp.float32))
    _, total, weighted = lax.fori_loop(0, pl.cdiv(end - start, tile_pieces), add_tile, nothing)
    output_ref[seq, q_head] = jnp.where(kv_lens_ref[seq] > 0, weighted / total, 0).astype(output_ref.dtype)
