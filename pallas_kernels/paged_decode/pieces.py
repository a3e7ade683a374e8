"""Flash-decoding's plan: the past of a batch cut into pieces of about equal size, however long its sequences are."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Int, Int32


class Pieces(NamedTuple):
    """Which tokens each piece covers: 0, 300 and 100 tokens in the pool, 3 pieces wanted, units of 64 tokens.

        starts = [0, 1, 3, 4]
        owner = [0, 1, 1, 2, 3, 3]   begin = [0, 0, 192, 0, ...]   end = [0, 192, 300, 100, ...]

    Attributes:
        owner: the piece's sequence; a piece that is not needed has the number of sequences.
        begin: the position of the first token; that of a sequence's first piece is the first one in the window.
        end: the position after the last token; a piece is empty only where the sequence sees nothing of the pool.
        starts: sequence s has the pieces starts[s] to starts[s + 1], in order, at least one.
    """

    owner: Int32[Array, "pieces"]
    begin: Int32[Array, "pieces"]
    end: Int32[Array, "pieces"]
    starts: Int32[Array, "seqs_plus_1"]


def cut_into_pieces(
    kv_lens: Int[Array, " seqs"], sliding_window: int | None, *, wanted: int, unit_tokens: int
) -> Pieces:
    """Cuts the tokens that are read from the pool into about `wanted` pieces: at most one more for each sequence.

    The number of pieces is static, as a grid is: what is not needed has no owner. Where the cuts are follows from the
    lengths of the very launch. All layers with the same window have the same plan, which XLA makes once.

    Args:
        kv_lens: tokens of each sequence, the new one counted; that one is not read from the pool.
        sliding_window: how many of the last tokens are seen, the new one counted.
        wanted: as many as keep the device busy.
        unit_tokens: cuts are at multiples of it.
    """
    seqs = kv_lens.shape[0]
    past = jnp.maximum(kv_lens.astype(jnp.int32) - 1, 0)
    first = jnp.zeros_like(past) if sliding_window is None else jnp.maximum(past + 1 - sliding_window, 0)
    first_unit = first // unit_tokens
    units = (past + unit_tokens - 1) // unit_tokens - first_unit
    most_units = jnp.maximum((units.sum() + wanted - 1) // wanted, 1)
    pieces_of = jnp.maximum((units + most_units - 1) // most_units, 1)
    starts = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(pieces_of, dtype=jnp.int32)])

    piece = jnp.arange(seqs + wanted, dtype=jnp.int32)
    owner = (starts[1:, None] <= piece).sum(axis=0, dtype=jnp.int32)
    seq = jnp.minimum(owner, seqs - 1)
    units_each = ((units + pieces_of - 1) // pieces_of)[seq]
    unit = first_unit[seq] + (piece - starts[seq]) * units_each
    begin = jnp.maximum(unit * unit_tokens, first[seq])
    return Pieces(owner, begin, jnp.minimum((unit + units_each) * unit_tokens, past[seq]), starts)
