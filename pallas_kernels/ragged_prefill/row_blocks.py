"""A chunk's rows in blocks of one sequence each, found in XLA, so that a kernel's program knows at once what is its."""

from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Int32

Scalar = Int32[Array, ""]


class RowBlock(NamedTuple):
    """The rows that one program computes, one after the other in the chunk and in their sequence.

    Attributes:
        sequence: whose rows they are.
        first_row: the first one's index in the chunk.
        rows: how many there are; 0 for a program without work.
        position: the first one's place in its sequence. Padding rows end where a sequence begins, and see nothing.
        past: tokens of the sequence that are in the pool.
    """

    sequence: Scalar
    first_row: Scalar
    rows: Scalar
    position: Scalar
    past: Scalar

    @classmethod
    def read(cls, blocks: jax.Ref, index: Scalar) -> Self:
        """Block `index` of what `row_blocks` made."""
        return cls(*(blocks[index, field] for field in range(len(cls._fields))))


def row_blocks(
    query_start_loc: Int[Array, " seqs_plus_1"],
    kv_lens: Int[Array, " seqs"],
    rows: int,
    block_rows: int,
    alignment: int = 1,
) -> Int32[Array, "blocks 5"]:
    """Blocks of up to `block_rows` rows that cover a chunk of `rows`, padding too; those that see most tokens first.

    Their number depends on shapes alone: an incomplete block for each sequence and for the padding. They lie between
    multiples of `alignment` that are `block_rows`, which is one too, apart: a sequence that begins within the first
    multiple has a smaller first block.
    """
    starts = jnp.append(query_start_loc, rows).astype(jnp.int32)
    lengths = jnp.diff(starts)
    kv_lens = jnp.append(kv_lens, 0).astype(jnp.int32)
    lead = jnp.where(lengths > 0, starts[:-1] % alignment, 0)
    blocks_before = jnp.append(0, jnp.cumsum(-(-(lead + lengths) // block_rows)))
    index = jnp.arange((rows + (alignment - 1) * len(kv_lens)) // block_rows + len(kv_lens))
    sequence = jnp.minimum((blocks_before[1:] <= index[:, None]).sum(axis=1), len(kv_lens) - 1)
    begin = (index - blocks_before[sequence]) * block_rows - lead[sequence]
    offset = jnp.maximum(begin, 0)
    count = jnp.clip(jnp.minimum(begin + block_rows, lengths[sequence]) - offset, 0)
    is_padding = kv_lens[sequence] == 0
    past = jnp.where(is_padding, 0, kv_lens[sequence] - lengths[sequence])
    position = jnp.where(is_padding, -count, past + offset)
    in_table = jnp.minimum(sequence, len(kv_lens) - 2)
    block = RowBlock(in_table, starts[sequence] + offset, count, position, past)
    seen = jnp.where(count > 0, position + count, 0)
    return jnp.stack(block, axis=1)[jnp.argsort(-seen)].astype(jnp.int32)
