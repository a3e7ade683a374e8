"""ragged_prefill in Pallas's Mosaic dialect, for Hopper: FlashAttention-3 (Shah et al. 2024) over scattered pages.

A program is two warpgroups with 64 rows each. They take turns: while one computes its softmax, the other has the tensor
cores. The first one sends for tiles, so that each may have half of the registers and none need be moved between them.
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu
from jaxtyping import Array, Float, Float32, Int

from muxjax.pallas_kernels.implementation import interpreted
from muxjax.pallas_kernels.mosaic_dtypes import check_mosaic_dtypes
from muxjax.pallas_kernels.online_softmax import LOG2_E
from muxjax.pallas_kernels.ragged_prefill.mosaic_ring import Pages, Ref, Ring, Slots
from muxjax.pallas_kernels.ragged_prefill.mosaic_tiles import BY_ROW, COLUMN_TILE, ROW_TILE, ROWS, WARPGROUPS, Tiles
from muxjax.pallas_kernels.ragged_prefill.row_blocks import RowBlock, Scalar, row_blocks

State = tuple[Float32[Array, " rows"], Float32[Array, " rows"], Float32[Array, "rows lane"]]

MAX_GROUP = WARPGROUPS * ROWS // ROW_TILE
NO_PEAK = -1e30  # below any score, and finite: -inf - -inf is NaN


@dataclass(frozen=True, slots=True)
class Layout:
    """How a program is laid out.

    Attributes:
        tokens: of keys and values at once.
        stages: tiles of them in the ring.
    """

    tokens: int
    stages: int


LAYOUTS: Mapping[int, Layout] = MappingProxyType({64: Layout(tokens=128, stages=4), 128: Layout(tokens=128, stages=2)})
"""By head size: a ring of 128 KiB; with 128 tokens a product reads less of shared memory than it has time for."""


def ragged_prefill_mosaic(
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
    layout: Layout | None = None,
) -> Float[Array, "rows q_heads lane"]:
    """See `ragged_prefill`; the query heads of a KV head are rows of one tile, so that they load its tokens once.

    Raises:
        NotImplementedError: no kernel for this dtype, head size, page size, number of query heads per KV head or scale.
    """
    _check_supported(queries, keys, pool, sm_scale)
    (rows, q_heads, lane), kv_heads, page_tokens = queries.shape, keys.shape[1], pool.shape[2]
    group, layout = q_heads // kv_heads, layout or LAYOUTS[lane]
    block_tokens = WARPGROUPS * ROWS // group // ROW_TILE * ROW_TILE
    queries, keys, values = (jnp.pad(x, ((0, -rows % ROW_TILE), (0, 0), (0, 0))) for x in (queries, keys, values))
    blocks = row_blocks(query_start_loc, kv_lens, len(queries), block_tokens, ROW_TILE)
    tiled, swizzled = plgpu.TilingTransform((ROW_TILE, COLUMN_TILE)), plgpu.SwizzleTransform(128)  # type: ignore[abstract]
    matrix = functools.partial(plgpu.SMEM, dtype=pool.dtype, transforms=(tiled, swizzled))
    ring = Slots.allocate(
        matrix((layout.stages, layout.tokens, lane)), copies=layout.tokens // min(layout.tokens, page_tokens)
    )
    output: Float[Array, "rows q_heads lane"] = plgpu.kernel(
        functools.partial(
            _attend,
            block_tokens=block_tokens,
            page_tokens=page_tokens,
            sm_scale=sm_scale,
            sliding_window=sliding_window,
            soft_cap=soft_cap,
        ),
        out_type=jax.ShapeDtypeStruct(queries.shape, queries.dtype),
        grid=(len(blocks), kv_heads),  # the last one varies first
        grid_names=("block", "kv_head"),
        num_threads=WARPGROUPS,
        thread_name="warpgroup",
        scratch_types=[
            plgpu.RefUnion(matrix((WARPGROUPS, ROWS, lane)), plgpu.SMEM((WARPGROUPS, ROWS, lane), pool.dtype)),
            matrix((WARPGROUPS, ROWS, layout.tokens)),
            ring,
            ring,
            plgpu.Barrier(num_arrivals=ROWS // math.gcd(block_tokens, ROWS), num_barriers=WARPGROUPS),
            plgpu.Barrier(num_arrivals=WARPGROUPS),
        ],
        # The approximate tanh is too coarse for scores.
        compiler_params=plgpu.CompilerParams(approx_math=soft_cap is None),
        interpret=plgpu.InterpretGPUParams() if interpreted() else None,
        kernel_name="ragged_prefill",
    )(
        blocks,
        queries,
        keys,
        values,
        Pages(pool.reshape(-1, lane), page_blocks.astype(jnp.int32), page_table.astype(jnp.int32)),
    )
    return output[:rows]


def _check_supported(queries: Array, keys: Array, pool: Array, sm_scale: float) -> None:
    (page_tokens, lane), group = pool.shape[2:], queries.shape[1] // keys.shape[1]
    check_mosaic_dtypes(queries, pool)
    if lane not in LAYOUTS:
        raise NotImplementedError(f"the Mosaic kernel takes heads of {', '.join(map(str, LAYOUTS))}, not {lane}")
    if page_tokens < ROW_TILE or page_tokens & (page_tokens - 1):
        raise NotImplementedError(
            f"the Mosaic kernel takes pages of a power of two of tokens, {ROW_TILE} or more, not {page_tokens}"
        )
    if group > MAX_GROUP:
        raise NotImplementedError(f"the Mosaic kernel takes at most {MAX_GROUP} query heads per KV head, not {group}")
    if sm_scale <= 0:
        raise NotImplementedError(f"the Mosaic kernel takes a positive sm_scale, not {sm_scale}")


def _attend(
    blocks_ref: Ref,
    queries_ref: Ref,
    keys_ref: Ref,
    values_ref: Ref,
    pages: Pages,
    output_ref: Ref,
    queries_or_output: tuple[Ref, Ref],
    weights: Ref,
    key_slots: Slots,
    value_slots: Slots,
    queries_arrived: Ref,
    turn: Ref,
    *,
    block_tokens: int,
    page_tokens: int,
    sm_scale: float,
    sliding_window: int | None,
    soft_cap: float | None,
) -> None:
    """One block of rows and one KV head; row r is token r % block_tokens of the block and head r // block_tokens."""
    kv_head, block_index, warpgroup = (lax.axis_index(name) for name in ("kv_head", "block", "warpgroup"))
    block = RowBlock.read(blocks_ref, block_index)
    matrix, plain = (half.at[warpgroup] for half in queries_or_output)
    arrived = queries_arrived.at[warpgroup]

    @pl.when(block.rows > 0)
    def _attend_to_tiles() -> None:
        tiles = Tiles(block, block_tokens, weights.shape[2], sliding_window)
        keys = Ring(tiles, key_slots, pages, keys_ref, 0, page_tokens, kv_head, warpgroup)
        values = Ring(tiles, value_slots, pages, values_ref, 1, page_tokens, kv_head, warpgroup)
        rows = _Rows(tiles, kv_head, warpgroup, queries_ref.shape[1] // keys_ref.shape[1])
        rows.fetch(queries_ref, matrix, arrived)
        keys.fetch_first()
        values.fetch_first()
        start: State = (
            plgpu.layout_cast(jnp.full((ROWS,), NO_PEAK), BY_ROW),
            plgpu.layout_cast(jnp.zeros((ROWS,)), BY_ROW),
            plgpu.layout_cast(jnp.zeros(matrix.shape), plgpu.Layout.WGMMA),
        )
        own = _Warpgroup(matrix, weights.at[warpgroup], keys, values, turn, sm_scale, soft_cap)
        plgpu.barrier_wait(arrived)
        pl.when(warpgroup == 1)(own.pass_turn)
        _, total, weighted = lax.fori_loop(0, tiles.count, own.add_tile, start)
        pl.when(warpgroup == 0)(own.pass_turn)
        scale = 1 / jnp.where(total == 0, 1, total)  # rows that saw nothing get zero
        attention = (weighted * lax.broadcast_in_dim(scale, weighted.shape, [0])).astype(matrix.dtype)
        rows.write(attention, matrix, plain, output_ref)


@dataclass(frozen=True, slots=True)
class _Warpgroup:
    """What computes the attention of 64 rows."""

    queries: Ref
    weights: Ref
    keys: Ring
    values: Ring
    turn: Ref
    sm_scale: float
    soft_cap: float | None

    def add_tile(self, index: Scalar, state: State) -> State:
        """Adds a tile to the online softmax of the rows."""
        peak, total, weighted = state
        keys = self.keys.wait(index).transpose((1, 0))

        def while_scored() -> None:
            self.pass_turn()
            self.keys.fetch_after(index - 1)

        scores, unit = _multiply(self.queries, keys, while_scored), self.sm_scale * LOG2_E
        self.keys.release(index)
        if self.soft_cap is not None:
            scores, unit = jnp.tanh(scores * (self.sm_scale / self.soft_cap)), self.soft_cap * LOG2_E
        scores = self.keys.tiles.mask(index, self.keys.warpgroup, scores)
        new_peak = jnp.maximum(peak, scores.max(axis=1))
        decay = jnp.exp2((peak - new_peak) * unit)
        weights = jnp.exp2(scores * unit - lax.broadcast_in_dim(new_peak * unit, scores.shape, [0]))
        new_total = total * decay + weights.sum(axis=1)
        self.weights[...] = weights.astype(self.weights.dtype)
        plgpu.commit_smem()
        values = self.values.wait(index)
        self._clear_unseen(index, values)
        self.pass_turn()
        added = _multiply(self.weights, values, lambda: self.values.fetch_after(index - 1))
        self.values.release(index)
        return new_peak, new_total, weighted * lax.broadcast_in_dim(decay, weighted.shape, [0]) + added

    def pass_turn(self) -> None:
        """Lets the other warpgroup have the tensor cores, or waits until it does."""
        plgpu.barrier_arrive(self.turn)
        plgpu.barrier_wait(self.turn)

    def _clear_unseen(self, index: Scalar, values: Ref) -> None:
        """Zeroes values that are not the sequence's, which may be NaN: a weight of zero would not drop them.

        The first warpgroup does it for both: the other one has its turn later.
        """
        tiles, columns = self.values.tiles, values.shape[1] // COLUMN_TILE

        @pl.when((self.values.warpgroup == 0) & ~tiles.is_all_seen(index))
        def _clear() -> None:
            @pl.loop(0, tiles.size // ROWS * columns)
            def _clear_part(number: Scalar) -> None:
                row = pl.multiple_of(lax.div(number, columns) * ROWS, ROWS)
                column = pl.multiple_of(lax.rem(number, columns) * COLUMN_TILE, COLUMN_TILE)
                part = values.at[pl.ds(row, ROWS), pl.ds(column, COLUMN_TILE)]
                part[...] = tiles.clear(index, row, plgpu.load(part, layout=plgpu.Layout.WGMMA))

            plgpu.commit_smem()


def _multiply(left: Ref, right: Ref, meanwhile: Callable[[], None]) -> Float32[Array, "rows columns"]:
    """On the tensor cores; they leave time to do something else."""

    def into(products: Ref) -> Float32[Array, "rows columns"]:
        plgpu.wgmma(products, left, right)
        meanwhile()
        return products[...]

    return pl.run_scoped(into, plgpu.WGMMAAccumulatorRef((left.shape[0], right.shape[1]), jnp.float32))


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of a warpgroup, which go to and fro in pieces of one head each."""

    tiles: Tiles
    kv_head: Scalar
    warpgroup: Scalar
    group: int

    def fetch(self, queries_ref: Ref, queries: Ref, arrived: Ref) -> None:
        """Sends for the queries; rows that are nobody's get others."""
        for row in range(0, ROWS, self._piece):
            token, head = self._place(row)
            source = queries_ref.at[self._slice(token, self._piece), self._q_head(head)]
            plgpu.copy_gmem_to_smem(source, queries.at[pl.ds(row, self._piece)], arrived)

    def write(self, attention: Float[Array, "rows lane"], matrix: Ref, plain: Ref, output_ref: Ref) -> None:
        """Writes what is the block's own, row by row if that is not all: beyond it are rows of other programs."""
        is_whole = self.tiles.block.rows == self.tiles.block_tokens

        @pl.when(is_whole)
        def _write_pieces() -> None:
            matrix[...] = attention
            plgpu.commit_smem()
            for row in range(0, ROWS, self._piece):
                self._write(row, self._piece, matrix, output_ref)

        @pl.when(~is_whole)
        def _write_rows() -> None:
            plain[...] = attention
            plgpu.commit_smem()

            @pl.loop(0, ROWS)
            def _write_row(row: Scalar) -> None:
                self._write(row, 1, plain, output_ref)

        plgpu.wait_smem_to_gmem(0)

    def _write(self, row: Scalar | int, size: int, source: Ref, output_ref: Ref) -> None:
        token, head = self._place(row)
        own = token - self.tiles.lead

        @pl.when((own >= 0) & (own < self.tiles.block.rows) & (head < self.group))
        def _copy() -> None:
            target = output_ref.at[self._slice(token, size), self._q_head(head)]
            plgpu.copy_smem_to_gmem(source.at[pl.ds(row, size)], target)

    @property
    def _piece(self) -> int:
        return math.gcd(self.tiles.block_tokens, ROWS)

    def _place(self, row: Scalar | int) -> tuple[Scalar, Scalar]:
        """Token of the tile and head of the group that a row of the warpgroup is."""
        row = self.warpgroup * ROWS + row
        return lax.rem(row, self.tiles.block_tokens), lax.div(row, self.tiles.block_tokens)

    def _slice(self, token: Scalar, size: int) -> pl.Slice:
        """Of the chunk's rows."""
        return pl.ds(
            pl.multiple_of(self.tiles.block.first_row - self.tiles.lead + token, math.gcd(size, ROW_TILE)), size
        )

    def _q_head(self, head: Scalar) -> Scalar:
        return self.kv_head * self.group + jnp.minimum(head, self.group - 1)
