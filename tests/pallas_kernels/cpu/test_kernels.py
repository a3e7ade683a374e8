"""What only the C kernels promise: bad tables are refused, and batches do not change a sequence's bits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from muxjax.pallas_kernels.paged_decode import paged_decode
from muxjax.pallas_kernels.pool_write import pool_write
from tests.pallas_kernels.cases import make_case


def test_a_sequence_does_not_depend_on_its_neighbours() -> None:
    case = make_case(np.random.default_rng(3), past=[100, 7, 260, 31], rows=[1] * 4, kv_heads=2, group=3)

    def decode(rows: slice) -> np.ndarray:
        own = (case.queries[rows], case.keys[rows], case.values[rows])
        tables = (case.page_blocks, case.page_table[rows], case.kv_lens[rows])
        program = jax.jit(lambda *arrays: paged_decode(*arrays, sm_scale=0.125, implementation="cpu"))
        return np.asarray(program(*own, case.pool, *tables))

    together = decode(slice(None))
    for seq in range(4):
        np.testing.assert_array_equal(decode(slice(seq, seq + 1))[0], together[seq])


@pytest.mark.parametrize(
    ("page_blocks", "page_table", "kv_lens", "message"),
    [
        ([[1], [9]], [[1, 0]], [3], r"page_blocks\[1, 0\] = 9 is not in 0..8"),
        ([[1], [2]], [[0, 5]], [70], r"page_table\[0, 1\] = 5 is not in 0..1"),
        (
            [[1], [2]],
            [[0, 1]],
            [130],
            r"kv_lens\[0\] = 130 with 1 new tokens does not fit a page table of 2 pages of 64",
        ),
    ],
)
def test_refuses_tables_that_point_outside(
    page_blocks: list[list[int]], page_table: list[list[int]], kv_lens: list[int], message: str
) -> None:
    row, pool = jnp.ones((1, 1, 64)), jnp.ones((9, 2, 64, 64))
    tables = [jnp.asarray(x) for x in (page_blocks, page_table, kv_lens)]
    with pytest.raises(jax.errors.JaxRuntimeError, match=message):
        paged_decode(row, row, row, pool, *tables, sm_scale=1.0, implementation="cpu").block_until_ready()


def test_refuses_slots_outside_and_leaves_the_pool() -> None:
    pool, tokens = jnp.zeros((4, 2, 64, 64)), jnp.ones((1, 2, 1, 64))
    tables = jnp.asarray([[[1], [2]]]), jnp.asarray([3, 128])
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"slot_mapping\[1\] = 128 is past the last of 2 pages of 64"):
        pool_write(pool, tokens, tokens, *tables, implementation="cpu").block_until_ready()
