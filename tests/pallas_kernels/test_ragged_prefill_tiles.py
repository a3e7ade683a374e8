"""The tiles of the Mosaic ragged_prefill: all that a block's rows see, once, from where TMA can fetch it."""

import jax.numpy as jnp
import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from muxjax.pallas_kernels.ragged_prefill.mosaic_tiles import ROW_TILE, Tiles
from muxjax.pallas_kernels.ragged_prefill.row_blocks import RowBlock

SIZE, BLOCK_TOKENS = 128, 40


@settings(max_examples=30, deadline=None)
@given(
    past=st.integers(0, 300),
    sequence_row=st.integers(0, 20),
    rows_before=st.integers(0, 200),
    rows=st.integers(1, BLOCK_TOKENS),
    sliding_window=st.none() | st.integers(1, 300),
)
@example(past=150, sequence_row=0, rows_before=30, rows=5, sliding_window=10)  # a window that begins after the past
def test_tiles_hold_what_rows_see(
    past: int, sequence_row: int, rows_before: int, rows: int, sliding_window: int | None
) -> None:
    first_row, position = sequence_row + rows_before, past + rows_before
    block = RowBlock(*map(jnp.int32, (0, first_row, rows, position, past)))
    tiles = Tiles(block, BLOCK_TOKENS, SIZE, sliding_window)
    fetched = []
    for index in range(int(tiles.count)):
        start, is_past = int(tiles.start(index)), bool(tiles.is_past(index))
        assert start % SIZE == 0 if is_past else (start - past + sequence_row) % ROW_TILE == 0
        tokens = np.arange(start, start + SIZE)
        own = (
            (tokens >= int(tiles.first))
            & (tokens < (past if is_past else position + rows))
            & (is_past | (tokens >= past))
        )
        assert own.any()
        assert bool(tiles.is_all_seen(index)) == own.all()
        fetched.extend(tokens[own])
    first = 0 if sliding_window is None else max(position + 1 - sliding_window, 0)
    assert fetched == list(range(first, position + rows))


def test_padding_rows_see_nothing() -> None:
    padding = RowBlock(*map(jnp.int32, (0, 21, 30, -30, 0)))
    assert int(Tiles(padding, BLOCK_TOKENS, SIZE, None).count) == 0
