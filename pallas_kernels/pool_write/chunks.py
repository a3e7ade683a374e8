"""How the tokens of an LLM lie in the unit's array, whose rows may be wider or narrower than a head."""

from typing import NamedTuple, Self

from jaxtyping import Array, Float, Int

from muxjax.pallas_kernels.attention_inputs import lane_of


class Chunks(NamedTuple):
    """A head of a token in pieces that are contiguous in one row of the array: what GPU kernels move.

    Chunks are counted head by head, rows by rows of tokens, layer by layer, as in the keys' own array.

    Attributes:
        width: elements of a chunk.
        per_head: chunks of one head of one token.
        per_row: chunks of a row of the unit's array.
        page_tokens: tokens of half a head block.
        rows: tokens of a layer.
        kv_heads: heads of a token.
    """

    width: int
    per_head: int
    per_row: int
    page_tokens: int
    rows: int
    kv_heads: int

    @classmethod
    def of(
        cls, pool: Float[Array, "blocks 2 block_tokens lane"], keys: Float[Array, "layers rows kv_heads dim"]
    ) -> Self:
        """Those of `keys` in `pool`."""
        _, rows, kv_heads, dim = keys.shape
        block_tokens, pool_lane = pool.shape[2:]
        lane = lane_of(dim)
        width = min(lane, pool_lane)
        return cls(width, lane // width, pool_lane // width, block_tokens * pool_lane // lane, rows, kv_heads)

    def origin(self, head: Int[Array, "*heads"]) -> tuple[Int[Array, "*heads"], ...]:
        """The layer, row and KV head of some heads by their number."""
        return head // (self.rows * self.kv_heads), head // self.kv_heads % self.rows, head % self.kv_heads

    def target(self, slot: Int[Array, "*heads"], chunk: Int[Array, "*heads"]) -> tuple[Int[Array, "*heads"], ...]:
        """The page, and in half of its block the row and column, of a chunk of the token in a slot.

        A column is visibly a multiple of the width, so that compilers know it to be aligned and move vectors.
        """
        place = slot % self.page_tokens * self.per_head + chunk
        return slot // self.page_tokens, place // self.per_row, place % self.per_row * self.width
