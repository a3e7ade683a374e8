"""Keys or values on their way into shared memory: a ring of tiles that TMA fills while others are multiplied."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from muxjax.pallas_kernels.ragged_prefill.mosaic_tiles import ROW_TILE, WARPGROUPS, Tiles
from muxjax.pallas_kernels.ragged_prefill.row_blocks import Scalar

Ref = Any  # Pallas's functions do not take the type of the references that it makes


class Pages(NamedTuple):
    """The past: the pool, which has a row for each token's keys or values, and the tables that lead into it."""

    pool: Ref
    page_blocks: Ref
    page_table: Ref


class Slots(NamedTuple):
    """A ring in shared memory: its tiles, and barriers for each of them."""

    tiles: Ref
    arrived: Ref
    used: Ref

    @classmethod
    def allocate(cls, tiles: Ref, copies: int) -> Self:
        """What to ask a launch for; a tile arrives in so many copies, and all warpgroups use it."""
        stages = tiles.shape[0]
        arrived, used = (plgpu.Barrier(num_arrivals=count, num_barriers=stages) for count in (copies, WARPGROUPS))
        return cls(tiles, arrived, used)


@dataclass(frozen=True, slots=True)
class Ring:
    """The keys, or the values, of a block's tiles. The first warpgroup sends for them, both use them.

    Attributes:
        tiles: which there are.
        slots: where they come to.
        pages: where the past comes from.
        own: where the chunk's rows come from.
        half: of a head block: 0 for keys, 1 for values.
        page_tokens: of a page.
        kv_head: whose they are.
        warpgroup: who asks.
    """

    tiles: Tiles
    slots: Slots
    pages: Pages
    own: Ref
    half: int
    page_tokens: int
    kv_head: Scalar
    warpgroup: Scalar

    def fetch_first(self) -> None:
        """Sends for as many tiles as there are slots."""

        @pl.when(self.warpgroup == 0)
        def _fetch_all() -> None:
            pl.loop(0, jnp.minimum(self.tiles.count, self._stages))(self._fetch)

    def wait(self, index: Scalar) -> Ref:
        """A tile, once it is there."""
        slot = lax.rem(index, self._stages)
        plgpu.barrier_wait(self.slots.arrived.at[slot])
        return self.slots.tiles.at[slot]

    def release(self, index: Scalar) -> None:
        """Says that the warpgroup has used a tile, if another one waits for its slot."""

        @pl.when(index + self._stages < self.tiles.count)
        def _arrive() -> None:
            plgpu.barrier_arrive(self.slots.used.at[lax.rem(index, self._stages)])

    def fetch_after(self, index: Scalar) -> None:
        """Sends for the tile that takes the slot of a released one, when both warpgroups have released it."""
        later = index + self._stages

        @pl.when((self.warpgroup == 0) & (index >= 0) & (later < self.tiles.count))
        def _fetch() -> None:
            plgpu.barrier_wait(self.slots.used.at[lax.rem(later, self._stages)])
            self._fetch(later)

    @property
    def _stages(self) -> int:
        return self.slots.tiles.shape[0]

    def _fetch(self, index: Scalar) -> None:
        """Page by page, or in as many copies of the chunk's rows, so that barriers count alike."""
        slot, start = lax.rem(index, self._stages), self.tiles.start(index)
        tile, arrived = self.slots.tiles.at[slot], self.slots.arrived.at[slot]
        size = min(self.tiles.size, self.page_tokens)
        offsets = range(0, self.tiles.size, size)

        @pl.when(self.tiles.is_past(index))
        def _from_pages() -> None:
            rows = [self._pool_row(start + offset) for offset in offsets]
            for row, offset in zip(rows, offsets, strict=True):
                source = self.pages.pool.at[pl.ds(pl.multiple_of(row, ROW_TILE), size)]
                plgpu.copy_gmem_to_smem(source, tile.at[pl.ds(offset, size)], arrived)

        @pl.when(~self.tiles.is_past(index))
        def _from_chunk() -> None:
            row = start + self.tiles.block.first_row - self.tiles.block.position
            for offset in offsets:
                rows = pl.ds(pl.multiple_of(row + offset, ROW_TILE), size)  # those past the chunk's end become zeros
                plgpu.copy_gmem_to_smem(self.own.at[rows, self.kv_head], tile.at[pl.ds(offset, size)], arrived)

    def _pool_row(self, token: Scalar) -> Scalar:
        """Of a token of the past. No page is read that no row sees: in place of one, it is the nearest that is seen."""
        block, tokens = self.tiles.block, self.page_tokens
        lowest, highest = lax.div(self.tiles.first, tokens), lax.div(block.past - 1, tokens)
        page = self.pages.page_table[block.sequence, jnp.clip(lax.div(token, tokens), lowest, highest)]
        return (2 * self.pages.page_blocks[page, self.kv_head] + self.half) * tokens + lax.rem(token, tokens)
