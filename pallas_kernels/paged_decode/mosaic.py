"""paged_decode in Pallas's Mosaic dialect: flash-decoding (Dao et al. 2023), for Hopper.

A program attends with the queries of one KV head to one piece of a sequence: TMA brings head blocks into a ring in
shared memory, and tensor cores multiply from there. With heads of 256 it is two warpgroups, each with half of them.
A second kernel, `mosaic_merge.py`, merges the pieces.
"""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu
from jaxtyping import Array, Bool, Float, Float32, Int, Int32

from muxjax.pallas_kernels.implementation import interpreted
from muxjax.pallas_kernels.mosaic_dtypes import check_mosaic_dtypes
from muxjax.pallas_kernels.multiprocessors import multiprocessors
from muxjax.pallas_kernels.online_softmax import log2_scores
from muxjax.pallas_kernels.paged_decode.mosaic_merge import merge_pieces
from muxjax.pallas_kernels.paged_decode.pieces import Pieces, cut_into_pieces

Ref = Any  # Pallas's functions do not take the type of the references that it makes
Scalar = Int32[Array, ""]
State = tuple[Float32[Array, " rows"], Float32[Array, " rows"], list[Float32[Array, "rows columns"]], list[Scalar]]

LANES = (64, 128, 256)
ROWS = 64  # of a product on Hopper's tensor cores: the query heads of a group, the rest is padding
ROW_TILE, COLUMN_TILE = 8, 64  # of a matrix in shared memory; 64 elements are the 128 bytes of a swizzle
TILE_TOKENS = 64
MAX_COLUMNS = 128  # of values for a warpgroup: its sums are half of its registers
COLUMNS = 64  # of values that are multiplied at a time: products and their sums must fit in registers together
BY_ROW, BY_COLUMN = plgpu.Layout.WGMMA.reduce(1), plgpu.Layout.WGMMA.reduce(0)


@dataclass(frozen=True, slots=True)
class Tuning:
    """How a launch is laid out.

    Attributes:
        stages: tiles of 64 tokens in the ring.
        programs: wanted for each multiprocessor.
        merged_pieces: pieces that are merged at a time.
    """

    stages: int
    programs: int = 4
    merged_pieces: int = 8


def tuning(lane: int) -> Tuning:
    """A ring of 64 KiB, so that two programs run beside each other, or of 128 KiB with heads of 256, where one does.

    Programs run in two waves or more: one that is not full then costs less.
    """
    return Tuning(stages=max(256 // lane, 2))


def paged_decode_mosaic(
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
    """See `paged_decode`. The new token's score is computed before the kernel, which starts its softmax with it.

    Raises:
        NotImplementedError: no kernel for this dtype, head size, page size or number of query heads per KV head.
    """
    _check_supported(queries, keys, pool)
    (seqs, q_heads, lane), kv_heads = queries.shape, keys.shape[1]
    group, page_tokens, layout = q_heads // kv_heads, pool.shape[2], layout or tuning(lane)
    page_blocks, page_table, kv_lens = (table.astype(jnp.int32) for table in (page_blocks, page_table, kv_lens))
    wanted = pl.cdiv(layout.programs * multiprocessors(), kv_heads)
    pieces = cut_into_pieces(kv_lens, sliding_window, wanted=wanted, unit_tokens=TILE_TOKENS)
    count = pieces.owner.shape[0]

    grouped = queries.reshape(seqs, kv_heads, group, lane)
    products = jnp.einsum("shgd,shd->shg", grouped, keys, preferred_element_type=jnp.float32)
    own_scores = jnp.pad(log2_scores(products, sm_scale, soft_cap), ((0, 0), (0, 0), (0, ROWS - group)))
    grouped = jnp.pad(grouped, ((0, 0), (0, 0), (0, -group % ROW_TILE), (0, 0)))
    warpgroups = max(lane // MAX_COLUMNS, 1)
    columns = lane // warpgroups
    tiled, swizzled = plgpu.TilingTransform((ROW_TILE, COLUMN_TILE)), plgpu.SwizzleTransform(128)  # type: ignore[abstract]
    matrix = functools.partial(plgpu.SMEM, dtype=pool.dtype, transforms=(tiled, swizzled))
    ring = [
        matrix((layout.stages, TILE_TOKENS, lane)),
        matrix((layout.stages, warpgroups, TILE_TOKENS, columns)),
    ]
    copies = (1 + warpgroups) * TILE_TOKENS // min(TILE_TOKENS, page_tokens)
    peak, total, weighted = plgpu.kernel(
        functools.partial(_attend_to_piece, group=group, page_tokens=page_tokens, sm_scale=sm_scale, soft_cap=soft_cap),
        out_type=[
            jax.ShapeDtypeStruct((count, kv_heads, ROWS), jnp.float32),
            jax.ShapeDtypeStruct((count, kv_heads, ROWS), jnp.float32),
            jax.ShapeDtypeStruct((count, q_heads + q_heads % 2, warpgroups, columns), jnp.float32),
        ],
        grid=(kv_heads, count),
        grid_names=("kv_head", "piece"),
        num_threads=warpgroups,
        thread_name="warpgroup",
        scratch_types=[
            matrix((ROWS, lane)),
            matrix((warpgroups, ROWS, TILE_TOKENS)),
            plgpu.RefUnion(ring, plgpu.SMEM((warpgroups, ROWS, columns), jnp.float32)),
            _Barriers(
                queries_arrived=plgpu.Barrier(),
                tile_arrived=plgpu.Barrier(num_arrivals=copies, num_barriers=layout.stages),
                tile_used=plgpu.Barrier(num_arrivals=warpgroups, num_barriers=layout.stages),
                ring_used=plgpu.Barrier(num_arrivals=warpgroups),
            ),
        ],
        # The approximate tanh is too coarse for scores.
        compiler_params=plgpu.CompilerParams(approx_math=soft_cap is None),
        interpret=plgpu.InterpretGPUParams() if interpreted() else None,
        kernel_name="paged_decode",
    )(
        pieces,
        grouped,
        own_scores,
        values.reshape(seqs, kv_heads, warpgroups, columns),
        pool.reshape(-1, lane),
        page_blocks,
        page_table,
    )
    weighted = weighted.reshape(count, -1, lane)
    merge = functools.partial(merge_pieces, group=group, at_once=layout.merged_pieces, dtype=queries.dtype)
    return merge(pieces.starts, kv_lens, peak, total, weighted)[:, :q_heads]


def _check_supported(queries: Array, keys: Array, pool: Array) -> None:
    (page_tokens, lane), group = pool.shape[2:], queries.shape[1] // keys.shape[1]
    check_mosaic_dtypes(queries, pool)
    if lane not in LANES:
        raise NotImplementedError(f"the Mosaic kernel takes heads of {', '.join(map(str, LANES))}, not {lane}")
    if page_tokens % ROW_TILE or (TILE_TOKENS % page_tokens and page_tokens % TILE_TOKENS):
        raise NotImplementedError(
            f"the Mosaic kernel takes pages of a power of two of tokens, {ROW_TILE} or more, not {page_tokens}"
        )
    if group > ROWS:
        raise NotImplementedError(f"the Mosaic kernel takes at most {ROWS} query heads per KV head, not {group}")


def _attend_to_piece(
    pieces: Pieces,
    queries_ref: Ref,
    own_scores_ref: Ref,
    values_ref: Ref,
    pool_ref: Ref,
    page_blocks_ref: Ref,
    page_table_ref: Ref,
    peak_ref: Ref,
    total_ref: Ref,
    weighted_ref: Ref,
    queries: Ref,
    weights: Ref,
    ring_or_output: tuple[tuple[Ref, Ref], Ref],
    barriers: "_Barriers",
    *,
    group: int,
    page_tokens: int,
    sm_scale: float,
    soft_cap: float | None,
) -> None:
    """Writes the attention of one KV head's queries to one piece; scores are logarithms to base 2.

    All warpgroups have the scores; each multiplies columns of the values of its own. The first one sends for tiles.
    """
    kv_head, piece, warpgroup = (lax.axis_index(name) for name in ("kv_head", "piece", "warpgroup"))
    (seqs, _, padded_group, _), seq = queries_ref.shape, pieces.owner[piece]
    ring, output = ring_or_output

    @pl.when(seq < seqs)
    def _attend() -> None:
        span = pieces.begin[piece], pieces.end[piece]
        tables = page_table_ref, page_blocks_ref, pool_ref
        tiles = _Tiles(seq, kv_head, warpgroup, *span, *tables, *ring, barriers, page_tokens)

        @pl.when(warpgroup == 0)
        def _fetch() -> None:
            queries_here = queries.at[pl.ds(0, padded_group)]
            plgpu.copy_gmem_to_smem(queries_ref.at[seq, kv_head], queries_here, barriers.queries_arrived)
            tiles.fetch_first()

        is_first = piece == pieces.starts[seq]
        once = jnp.where(is_first, 1.0, 0.0)
        own_score = plgpu.load(own_scores_ref.at[seq, kv_head], layout=BY_ROW, optimized=False)
        weighted = []
        for columns in _parts(values_ref.shape[3]):
            own_values = values_ref.at[seq, kv_head, warpgroup, columns]
            own_value = plgpu.load(own_values, layout=BY_COLUMN, optimized=False).astype(jnp.float32)
            rows = lax.broadcast_in_dim(own_value * once, (ROWS, COLUMNS), [1])
            weighted.append(plgpu.layout_cast(rows, plgpu.Layout.WGMMA))
        start: State = (
            own_score + jnp.where(is_first, 0.0, -jnp.inf),
            plgpu.layout_cast(jnp.full((ROWS,), once), BY_ROW),
            weighted,
            tiles.pages(jnp.int32(tiles.stages)),
        )
        add_tile = functools.partial(_add_tile, queries, weights.at[warpgroup], tiles, sm_scale, soft_cap)
        plgpu.barrier_wait(barriers.queries_arrived)
        peak, total, weighted, _ = lax.fori_loop(0, tiles.count, add_tile, start)

        @pl.when(warpgroup == 0)
        def _write_sums() -> None:
            peak_ref[piece, kv_head] = peak
            total_ref[piece, kv_head] = total

        plgpu.barrier_arrive(barriers.ring_used)
        plgpu.barrier_wait(barriers.ring_used)  # the output takes its place
        for columns, part in zip(_parts(values_ref.shape[3]), weighted, strict=True):
            output[warpgroup, :, columns] = part
        plgpu.commit_smem()
        written = weighted_ref.at[piece, pl.ds(kv_head * group, group), warpgroup]
        plgpu.copy_smem_to_gmem(output.at[warpgroup, pl.ds(0, group)], written)
        plgpu.wait_smem_to_gmem(0)


def _add_tile(
    queries: Ref,
    weights: Ref,
    tiles: "_Tiles",
    sm_scale: float,
    soft_cap: float | None,
    index: Scalar,
    state: State,
) -> State:
    """Adds a tile to the online softmax, and sends for the one that takes its place in the ring."""
    peak, total, weighted, pages = state
    later = index + tiles.stages
    # Table entries are read a tile before TMA needs them, so that nothing waits for them.
    later_blocks, later_pages = tiles.blocks(pages), tiles.pages(later + 1)
    keys, values = tiles.wait(index)
    tiles.clear_unseen(index)

    def multiply(left: Ref, right: Ref, columns: int) -> Float32[Array, "rows columns"]:
        def into(products: Ref) -> Float32[Array, "rows columns"]:
            plgpu.wgmma(products, left, right)
            return products[...]

        return pl.run_scoped(into, plgpu.WGMMAAccumulatorRef((ROWS, columns), jnp.float32))

    scores = log2_scores(multiply(queries, keys.transpose((1, 0)), TILE_TOKENS), sm_scale, soft_cap)
    scores = jnp.where(tiles.visible(index, scores.shape, 1), scores, -jnp.inf)
    new_peak = jnp.maximum(peak, scores.max(axis=1))
    decay = jnp.exp2(peak - new_peak)
    new_weights = jnp.exp2(scores - lax.broadcast_in_dim(new_peak, scores.shape, [0]))
    weights[...] = new_weights.astype(weights.dtype)
    new_total = total * decay + new_weights.sum(axis=1)
    plgpu.commit_smem()
    new_weighted = []
    for columns, part in zip(_parts(values.shape[1]), weighted, strict=True):
        added = multiply(weights, values.at[:, columns], COLUMNS)
        new_weighted.append(part * lax.broadcast_in_dim(decay, part.shape, [0]) + added)
    tiles.release(index, later_blocks)
    return new_peak, new_total, new_weighted, later_pages


def _parts(columns: int) -> list[pl.Slice]:
    return [pl.ds(start, COLUMNS) for start in range(0, columns, COLUMNS)]


class _Barriers(NamedTuple):
    queries_arrived: Ref
    tile_arrived: Ref
    tile_used: Ref
    ring_used: Ref


@dataclass(frozen=True, slots=True)
class _Tiles:
    """The tokens of a piece, in tiles of 64: a ring of them is in shared memory or on its way there."""

    seq: Scalar
    kv_head: Scalar
    warpgroup: Scalar
    begin: Scalar
    end: Scalar
    page_table: Ref
    page_blocks: Ref
    pool: Ref
    keys: Ref
    values: Ref
    barriers: _Barriers
    page_tokens: int

    @property
    def stages(self) -> int:
        return self.keys.shape[0]

    @property
    def count(self) -> Scalar:
        tiles = pl.cdiv(self.end, TILE_TOKENS) - self.begin // TILE_TOKENS
        return jnp.where(self.begin < self.end, tiles, 0)

    def pages(self, index: Scalar) -> list[Scalar]:
        """The page of each copy's tokens."""
        return [self.page_table[self.seq, token // self.page_tokens] for token in self._first_tokens(index)]

    def blocks(self, pages: list[Scalar]) -> list[Scalar]:
        return [self.page_blocks[page, self.kv_head] for page in pages]

    def fetch(self, index: Scalar, blocks: list[Scalar]) -> None:
        """Sends for a tile whose blocks are known."""
        slot, size = lax.rem(index, self.stages), self._copied_tokens
        warpgroups, _, columns = self.values.shape[1:]
        arrived = self.barriers.tile_arrived.at[slot]
        for number, (block, token) in enumerate(zip(blocks, self._first_tokens(index), strict=True)):
            key_row = 2 * block * self.page_tokens + lax.rem(token, self.page_tokens)
            here = pl.ds(number * size, size)
            plgpu.copy_gmem_to_smem(self.pool.at[pl.ds(key_row, size)], self.keys.at[slot, here], arrived)
            for warpgroup in range(warpgroups):
                part = self.pool.at[pl.ds(key_row + self.page_tokens, size), pl.ds(warpgroup * columns, columns)]
                plgpu.copy_gmem_to_smem(part, self.values.at[slot, warpgroup, here], arrived)

    def fetch_first(self) -> None:
        """Sends for as many tiles as the ring holds."""

        @pl.loop(0, jnp.minimum(self.count, self.stages))
        def _fetch(index: Scalar) -> None:
            self.fetch(index, self.blocks(self.pages(index)))

    def wait(self, index: Scalar) -> tuple[Ref, Ref]:
        """The keys of a tile, and the warpgroup's columns of its values, once they are there."""
        slot = lax.rem(index, self.stages)
        plgpu.barrier_wait(self.barriers.tile_arrived.at[slot])
        return self.keys.at[slot], self.values.at[slot, self.warpgroup]

    def release(self, index: Scalar, later_blocks: list[Scalar]) -> None:
        """Says that the warpgroup has used a tile; when all have, the first one sends for the next in its place."""
        used, later = self.barriers.tile_used.at[lax.rem(index, self.stages)], index + self.stages
        plgpu.barrier_arrive(used)

        @pl.when((self.warpgroup == 0) & (later < self.count))
        def _fetch() -> None:
            plgpu.barrier_wait(used)
            self.fetch(later, later_blocks)

    def visible(self, index: Scalar, shape: tuple[int, ...], axis: int) -> Bool[Array, "rows columns"]:
        """Which of a tile's tokens, along `axis`, belong to the piece."""
        token = self._start(index) + plgpu.broadcasted_iota(jnp.int32, shape, axis, layout=plgpu.Layout.WGMMA)
        return (token >= self.begin) & (token < self.end)

    def clear_unseen(self, index: Scalar) -> None:
        """Zeroes values that are not the piece's, which may be NaN: a weight of zero would not drop them."""
        start, slot = self._start(index), lax.rem(index, self.stages)

        @pl.when((start < self.begin) | (start + TILE_TOKENS > self.end))
        def _clear() -> None:
            for columns in _parts(self.values.shape[3]):
                part = self.values.at[slot, self.warpgroup, :, columns]
                values = plgpu.load(part, layout=plgpu.Layout.WGMMA)
                part[...] = jnp.where(self.visible(index, values.shape, 0), values, jnp.zeros_like(values))

    @property
    def _copied_tokens(self) -> int:
        return min(TILE_TOKENS, self.page_tokens)

    def _start(self, index: Scalar) -> Scalar:
        return (self.begin // TILE_TOKENS + index) * TILE_TOKENS

    def _first_tokens(self, index: Scalar) -> list[Scalar]:
        """Of each copy; past the piece's ends, those of the nearest copy within, which costs no memory traffic."""
        size = self._copied_tokens
        lowest, highest = (token // size * size for token in (self.begin, jnp.maximum(self.end - 1, 0)))
        starts = (self._start(index) + offset for offset in range(0, TILE_TOKENS, size))
        return [jnp.minimum(jnp.maximum(start, lowest), highest) for start in starts]
