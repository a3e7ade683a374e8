"""row_blocks: every row of a chunk is in exactly one block of its own sequence, and the longest work comes first."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from muxjax.pallas_kernels.ragged_prefill.row_blocks import RowBlock, row_blocks

ROWS, SEQUENCES, NOT_SEEN = 64, 4, 1000


@settings(max_examples=50, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(0, 90), st.integers(0, 16)), max_size=SEQUENCES),
    size=st.sampled_from([(1, 1), (3, 1), (16, 1), (128, 1), (8, 8), (24, 8)]),
)
def test_blocks_cover_the_chunk(lengths: list[tuple[int, int]], size: tuple[int, int]) -> None:
    block_rows, alignment = size
    lengths = lengths + [(0, 0)] * (SEQUENCES - len(lengths))
    past, new = np.array(lengths).T
    starts = np.append(0, np.cumsum(new))
    found = row_blocks(jnp.asarray(starts), jnp.asarray(past + new), ROWS, block_rows, alignment)
    blocks = RowBlock(*np.asarray(found).T)
    assert (np.diff(np.where(blocks.rows > 0, blocks.position + blocks.rows, 0)) <= 0).all()
    seen = np.full(ROWS, NOT_SEEN)
    for sequence, first, rows, position, stored in zip(*blocks, strict=True):
        index = np.arange(first, first + rows)
        assert (seen[index] == NOT_SEEN).all()
        seen[index] = np.arange(position, position + rows)
        assert first % alignment + rows <= block_rows
        if first < starts[-1]:
            assert stored == past[sequence]
            assert (position - stored == first - starts[sequence]) | (rows == 0)
            assert first + rows <= starts[sequence + 1]
    own = np.concatenate([before + np.arange(count) for before, count in lengths])
    np.testing.assert_array_equal(seen[: starts[-1]], own)
    assert (seen[starts[-1] :] < 0).all()
