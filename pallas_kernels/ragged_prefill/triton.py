"""ragged_prefill in Pallas's Triton, for GPUs from Ampere on: FlashAttention-2 (Dao 2023) over scattered pages."""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
from jaxtyping import Array, Bool, Float, Int, Int32

from muxjax.pallas_kernels.implementation import interpreted
from muxjax.pallas_kernels.ragged_prefill.row_blocks import RowBlock, Scalar, row_blocks

Positions = Int32[Array, " tokens"]
Wanted = Bool[Array, " tokens"]
Tile = tuple[Float[Array, "tokens lane"], Float[Array, "tokens lane"]]

NO_PEAK = -1e30  # below any score, and finite: -inf - -inf is NaN


@dataclass(frozen=True, slots=True)
class Tiles:
    """How a program divides its work.

    Attributes:
        rows: of queries at once: tokens times the query heads that share a KV head.
        tokens: of keys and values at once.
        warps: that compute a tile together.
        stages: how many tiles of keys and values are in flight.
    """

    rows: int
    tokens: int
    warps: int
    stages: int


# By head size: what fits into 255 registers without spilling on sm_80, where operands of products lie in registers too,
# and into Ada's 99 KiB of shared memory. Half of the registers of 8 warps are accumulators of 128 x 128 in float32.
TILES: Mapping[int, Tiles] = MappingProxyType(
    {
        32: Tiles(rows=128, tokens=64, warps=4, stages=3),
        64: Tiles(rows=128, tokens=64, warps=8, stages=3),
        128: Tiles(rows=128, tokens=32, warps=8, stages=2),
        256: Tiles(rows=64, tokens=32, warps=8, stages=2),
    }
)
# In float32 products run on the ordinary cores, out of registers.
FLOAT32_TILES: Mapping[int, Tiles] = MappingProxyType(
    {lane: Tiles(rows=32, tokens=16, warps=4 if lane < 128 else 8, stages=1) for lane in TILES}
)


def ragged_prefill_triton(
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
    tiles: Tiles | None = None,
) -> Float[Array, "rows q_heads lane"]:
    """See `ragged_prefill`; the query heads of a KV head are rows of one tile, so that they load its tokens once.

    Raises:
        NotImplementedError: a head size, group or scale that the kernel does not take.
    """
    rows, q_heads, lane = queries.shape
    kv_heads = keys.shape[1]
    group = q_heads // kv_heads
    dtype = jnp.promote_types(queries.dtype, pool.dtype)
    tiles = tiles or choose_tiles(lane, dtype)
    if group > tiles.rows:
        raise NotImplementedError(
            f"the Triton kernel takes up to {tiles.rows} query heads per KV head, not {group}: use implementation='xla'"
        )
    if sm_scale <= 0:
        raise NotImplementedError(f"the Triton kernel takes a positive sm_scale, not {sm_scale}")
    block_tokens = tiles.rows // group
    blocks = row_blocks(query_start_loc, kv_lens, rows, block_tokens)
    kernel = functools.partial(
        _kernel, group=group, tiles=tiles, sm_scale=sm_scale, sliding_window=sliding_window, soft_cap=soft_cap
    )
    output: Float[Array, "rows q_heads lane"] = pl.pallas_call(
        kernel,
        out_shape=jax.ShapeDtypeStruct(queries.shape, queries.dtype),
        grid=(kv_heads, len(blocks)),
        compiler_params=plgpu.CompilerParams(num_warps=tiles.warps, num_stages=tiles.stages),
        interpret=interpreted(),
        name="ragged_prefill_triton",
    )(blocks, page_table.astype(jnp.int32), page_blocks.astype(jnp.int32), queries, keys, values, pool)
    return output


def choose_tiles(lane: int, dtype: jnp.dtype) -> Tiles:
    """The tiles for a head size and the dtype of products.

    Raises:
        NotImplementedError: heads of this size do not fit.
    """
    if lane not in TILES:
        raise NotImplementedError(
            f"the Triton kernel takes heads of {', '.join(map(str, TILES))}, not {lane}: use implementation='xla'"
        )
    return (FLOAT32_TILES if dtype == jnp.float32 else TILES)[lane]


def _kernel(
    blocks_ref: jax.Ref,
    page_table_ref: jax.Ref,
    page_blocks_ref: jax.Ref,
    queries_ref: jax.Ref,
    keys_ref: jax.Ref,
    values_ref: jax.Ref,
    pool_ref: jax.Ref,
    output_ref: jax.Ref,
    *,
    group: int,
    tiles: Tiles,
    sm_scale: float,
    sliding_window: int | None,
    soft_cap: float | None,
) -> None:
    """One block of rows and one KV head; row r of a tile is token r // group of the block and head r % group."""
    kv_head = pl.program_id(0)
    block = RowBlock.read(blocks_ref, pl.program_id(1))
    dtype = jnp.promote_types(queries_ref.dtype, pool_ref.dtype)
    page_tokens = pool_ref.shape[2]
    token, head = (part(jnp.arange(tiles.rows), group) for part in (lax.div, lax.rem))
    lane = jnp.arange(queries_ref.shape[2])[None, :]
    heads = ((block.first_row + token)[:, None], (kv_head * group + head)[:, None], lane)
    is_own = (token < block.rows)[:, None]
    queries = plgpu.load(queries_ref.at[heads], mask=is_own, other=0).astype(dtype)

    def load_past(positions: Positions, wanted: Wanted) -> Tile:
        page = plgpu.load(page_table_ref.at[block.sequence, lax.div(positions, page_tokens)], mask=wanted, other=0)
        pool_block = plgpu.load(page_blocks_ref.at[page, kv_head], mask=wanted, other=0)[:, None]
        offset, mask = lax.rem(positions, page_tokens)[:, None], wanted[:, None]
        key, value = (plgpu.load(pool_ref.at[pool_block, half, offset, lane], mask=mask, other=0) for half in (0, 1))
        return key.astype(dtype), value.astype(dtype)

    def load_own(positions: Positions, wanted: Wanted) -> Tile:
        row, mask = (positions - block.position + block.first_row)[:, None], wanted[:, None]
        key, value = (plgpu.load(ref.at[row, kv_head, lane], mask=mask, other=0) for ref in (keys_ref, values_ref))
        return key.astype(dtype), value.astype(dtype)

    seen = _Seen(queries, block.position + token, tiles.tokens, sm_scale, sliding_window, soft_cap)
    first = jnp.int32(0)
    if sliding_window is not None:
        first = jnp.maximum(block.position + 1 - sliding_window, 0)
    state = _State.empty(queries.shape)
    state = seen.add(state, load_past, first, block.past, whole=block.past)
    end = block.position + block.rows
    state = seen.add(state, load_own, jnp.maximum(first, block.past), end, whole=block.position + 1)
    plgpu.store(output_ref.at[heads], state.attention().astype(output_ref.dtype), mask=is_own)


class _State(NamedTuple):
    """The online softmax of some rows: the highest score, the sum of weights, the weighted sum of values."""

    peak: Float[Array, " rows"]
    total: Float[Array, " rows"]
    weighted: Float[Array, "rows lane"]

    @classmethod
    def empty(cls, shape: tuple[int, ...]) -> Self:
        return cls(jnp.full(shape[:1], NO_PEAK), jnp.zeros(shape[:1]), jnp.zeros(shape))

    def attention(self) -> Float[Array, "rows lane"]:
        """The weighted mean; zero for rows that saw nothing."""
        return self.weighted / jnp.where(self.total == 0, 1, self.total)[:, None]


class _Seen(NamedTuple):
    """What the rows of a program see, tile by tile."""

    queries: Float[Array, "rows lane"]
    positions: Int32[Array, " rows"]
    tile_tokens: int
    sm_scale: float
    sliding_window: int | None
    soft_cap: float | None

    def add(
        self, state: _State, load: Callable[[Positions, Wanted], Tile], begin: Scalar, end: Scalar, whole: Scalar
    ) -> _State:
        """Adds the tokens at positions from `begin` to `end`; without a window, every row sees all before `whole`."""
        size = self.tile_tokens

        def add_tile(index: Scalar, state: _State, is_whole: bool) -> _State:
            positions = begin + index * size + jnp.arange(size)
            key, value = load(positions, positions < end)
            return self._add_tile(state, key, value, None if is_whole else positions, end)

        wholes = lax.div(jnp.maximum(whole - begin, 0), size) if self.sliding_window is None else 0
        tiles = lax.div(jnp.maximum(end - begin, 0) + size - 1, size)
        state = lax.fori_loop(0, wholes, functools.partial(add_tile, is_whole=True), state)
        return lax.fori_loop(wholes, tiles, functools.partial(add_tile, is_whole=False), state)

    def _add_tile(self, state: _State, key: Array, value: Array, positions: Positions | None, end: Scalar) -> _State:
        """Adds a tile; `positions` of its tokens where rows may not see all of them."""
        scores, unit = self._dot(self.queries, key.T), self.sm_scale * math.log2(math.e)
        if self.soft_cap is not None:
            scores, unit = jnp.tanh(scores * (self.sm_scale / self.soft_cap)), self.soft_cap * math.log2(math.e)
        if positions is not None:
            row = self.positions[:, None]
            visible = (positions[None, :] <= row) & (positions < end)
            if self.sliding_window is not None:
                visible &= positions > row - self.sliding_window
            scores = jnp.where(visible, scores, -jnp.inf)
        peak = jnp.maximum(state.peak, scores.max(axis=1))
        weights = jnp.exp2((scores - peak[:, None]) * unit)
        decay = jnp.exp2((state.peak - peak) * unit)
        weighted = state.weighted * decay[:, None] + self._dot(weights.astype(value.dtype), value)
        return _State(peak, state.total * decay + weights.sum(axis=1), weighted)

    @staticmethod
    def _dot(left: Array, right: Array) -> Array:
        precision = lax.Precision.HIGHEST if left.dtype == jnp.float32 else None
        return jnp.dot(left, right, precision=precision, preferred_element_type=jnp.float32)
