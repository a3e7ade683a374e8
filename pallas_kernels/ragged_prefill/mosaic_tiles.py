"""What the rows of one program of the Mosaic ragged_prefill see, cut into tiles."""

from dataclasses import dataclass

import jax.numpy as jnp
from jax import lax
from jax.experimental.pallas import mosaic_gpu as plgpu
from jaxtyping import Array, Bool, Float, Float32

from muxjax.pallas_kernels.ragged_prefill.row_blocks import RowBlock, Scalar

WARPGROUPS = 2
ROWS = 64  # of a warpgroup: of a product on Hopper's tensor cores
ROW_TILE, COLUMN_TILE = 8, 64  # of a matrix in shared memory; 64 elements are the 128 bytes of a swizzle
BY_ROW = plgpu.Layout.WGMMA.reduce(1)


@dataclass(frozen=True, slots=True)
class Tiles:
    """The tokens that some row of a block sees: tiles of its past, then tiles of the rows of its sequence.

    The past's begin at positions that are multiples of their size, the rows' at rows that are multiples of 8.

    Attributes:
        block: of rows.
        block_tokens: rows of a whole block; row r of the warpgroups is token r % block_tokens of it.
        size: tokens of a tile.
        sliding_window: see `ragged_prefill`.
    """

    block: RowBlock
    block_tokens: int
    size: int
    sliding_window: int | None

    @property
    def count(self) -> Scalar:
        own = lax.div(self._end - self._own_start + self.size - 1, self.size)
        return self._past_count + jnp.where(self._end > self.block.past, own, 0)  # padding rows see nothing

    @property
    def lead(self) -> Scalar:
        """Rows of the warpgroups before the block's own: these begin at a multiple of 8."""
        return lax.rem(self.block.first_row, ROW_TILE)

    @property
    def first(self) -> Scalar:
        """The position of the first token that any row sees."""
        if self.sliding_window is None:
            return jnp.int32(0)
        return jnp.maximum(self.block.position + 1 - self.sliding_window, 0)

    def is_past(self, index: Scalar) -> Bool[Array, ""]:
        return index < self._past_count

    def start(self, index: Scalar) -> Scalar:
        """The position of a tile's first token."""
        past_start = self.first - lax.rem(self.first, self.size)
        return index * self.size + jnp.where(
            self.is_past(index), past_start, self._own_start - self._past_count * self.size
        )

    def is_all_seen(self, index: Scalar) -> Bool[Array, ""]:
        """Whether every token of a tile is seen by some row."""
        start, (begin, end) = self.start(index), self._seen(index)
        return (start >= begin) & (start + self.size <= end)

    def clear(
        self, index: Scalar, first: Scalar, values: Float[Array, "tokens columns"]
    ) -> Float[Array, "tokens columns"]:
        """Zeroes in place of values that no row sees, of a tile's tokens from `first` on."""
        begin, end = self._seen(index)
        token = (
            self.start(index) + first + plgpu.broadcasted_iota(jnp.int32, values.shape, 0, layout=plgpu.Layout.WGMMA)
        )
        return jnp.where((token >= begin) & (token < end), values, jnp.zeros_like(values))

    def mask(
        self, index: Scalar, warpgroup: Scalar, scores: Float32[Array, "rows tokens"]
    ) -> Float32[Array, "rows tokens"]:
        """-inf in place of the scores of tokens that a row does not see; most tiles all rows see whole."""
        start = self.start(index)
        is_whole = self.is_all_seen(index) & (start + self.size <= self.block.position + 1)
        if self.sliding_window is not None:
            is_whole &= start + self.sliding_window >= self._end

        def drop_unseen(scores: Float32[Array, "rows tokens"]) -> Float32[Array, "rows tokens"]:
            return jnp.where(self._visible(index, warpgroup, scores.shape), scores, -jnp.inf)

        return lax.cond(is_whole, lambda scores: scores, drop_unseen, scores)

    def _visible(self, index: Scalar, warpgroup: Scalar, shape: tuple[int, ...]) -> Bool[Array, "rows tokens"]:
        row = warpgroup * ROWS + plgpu.broadcasted_iota(jnp.int32, (ROWS,), 0, layout=BY_ROW)
        position = self.block.position - self.lead + lax.rem(row, self.block_tokens)
        token = self.start(index) + plgpu.broadcasted_iota(jnp.int32, shape, 1, layout=plgpu.Layout.WGMMA)
        begin, end = self._seen(index)
        last = lax.broadcast_in_dim(jnp.minimum(position, end - 1), shape, [0])
        if self.sliding_window is None:
            return (token >= begin) & (token <= last)
        first = jnp.maximum(position + 1 - self.sliding_window, begin)
        return (token >= lax.broadcast_in_dim(first, shape, [0])) & (token <= last)

    def _seen(self, index: Scalar) -> tuple[Scalar, Scalar]:
        """Where the tokens begin that rows see in tiles of this kind, and where they end."""
        past = self.block.past
        begin = jnp.where(self.is_past(index), self.first, jnp.maximum(self.first, past))
        return begin, jnp.where(self.is_past(index), past, self._end)

    @property
    def _end(self) -> Scalar:
        return self.block.position + self.block.rows

    @property
    def _past_count(self) -> Scalar:
        tiles = lax.div(self.block.past + self.size - 1, self.size) - lax.div(self.first, self.size)
        return jnp.where(self.first < self.block.past, tiles, 0)

    @property
    def _own_start(self) -> Scalar:
        sequence_row = self.block.first_row - self.block.position + self.block.past
        start = self.block.past - lax.rem(sequence_row, ROW_TILE)
        return start + lax.div(jnp.maximum(self.first - start, 0), self.size) * self.size
