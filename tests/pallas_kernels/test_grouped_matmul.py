"""grouped_matmul: every implementation gives the reference's products, and reads no matrix of a group without rows."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muxjax.pallas_kernels.grouped_matmul import grouped_matmul
from muxjax.pallas_kernels.grouped_matmul.reference import grouped_matmul_reference
from muxjax.pallas_kernels.grouped_matmul.row_tiles import max_tiles, row_tiles
from tests.pallas_kernels.cases import DTYPES, assert_close

IMPLEMENTATIONS = ["triton", "xla"]
each_implementation = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
ROWS, GROUPS = 70, 6
CASES = [  # rows of each group, inner, columns, dtype, whether weights are int8
    ([3, 0, 5], 7, 5, "float32", False),  # no tile divides anything
    ([3, 0, 5], 7, 5, "bfloat16", True),
    ([0, 0, 40], 130, 33, "bfloat16", False),
    ([0, 0, 40], 130, 33, "float32", True),
    ([1], 64, 200, "float16", False),
    ([0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 32, 16, "bfloat16", False),
    ([17, 16, 0, 1, 50], 96, 130, "float16", True),
    ([130, 0, 200], 64, 17, "bfloat16", False),  # high tiles
    ([130, 0, 200], 64, 17, "bfloat16", True),
    ([2, 1], 24, 32 * 17, "bfloat16", False),  # more than one band of columns
]


def make_inputs(
    rng: np.random.Generator, sizes: Sequence[int], inner: int, columns: int, dtype: str, *, is_int8: bool = False
) -> tuple[np.ndarray, ...]:
    """Rows, and weights that give products of order one."""
    rows = rng.standard_normal((sum(sizes), inner)).astype(DTYPES[dtype])
    shape = (len(sizes), inner, columns)
    group_sizes = np.asarray(sizes, np.int32)
    if not is_int8:
        return rows, (rng.standard_normal(shape) / inner**0.5).astype(DTYPES[dtype]), group_sizes
    scales = rng.uniform(0.001, 0.01, (len(sizes), columns)) / inner**0.5
    return rows, rng.integers(-127, 128, shape, np.int8), group_sizes, scales.astype(np.float32)


@functools.cache
def compiled(implementation: str) -> Callable[..., jax.Array]:
    return jax.jit(functools.partial(grouped_matmul, implementation=implementation))


def check(implementation: str, inputs: tuple[np.ndarray, ...], dtype: str) -> None:
    product = compiled(implementation)(*inputs)
    assert product.dtype == DTYPES[dtype]
    assert_close(product, grouped_matmul_reference(*inputs), dtype)


@each_implementation
@pytest.mark.parametrize(("sizes", "inner", "columns", "dtype", "is_int8"), CASES)
def test_equals_reference(
    implementation: str, sizes: list[int], inner: int, columns: int, dtype: str, is_int8: bool
) -> None:
    inputs = make_inputs(np.random.default_rng(0), sizes, inner, columns, dtype, is_int8=is_int8)
    check(implementation, inputs, dtype)


@each_implementation
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(0, ROWS), min_size=GROUPS - 1, max_size=GROUPS - 1))
def test_any_sizes(implementation: str, seed: int, cuts: list[int]) -> None:
    sizes = np.diff([0, *sorted(cuts), ROWS])
    check(implementation, make_inputs(np.random.default_rng(seed), sizes, 24, 40, "float32"), "float32")


@each_implementation
def test_accumulates_in_float32(implementation: str) -> None:
    rows, weights = np.ones((1, 4096), jnp.bfloat16), np.full((1, 4096, 8), 2**-8, jnp.bfloat16)
    product = compiled(implementation)(rows, weights, np.asarray([1]))
    np.testing.assert_array_equal(product.astype(np.float32), 16)


def test_reads_no_matrix_of_a_group_without_rows() -> None:
    rows, weights, sizes = make_inputs(np.random.default_rng(0), [4, 0, 21, 0], 24, 40, "float32")
    expected = grouped_matmul_reference(rows, weights, sizes)
    weights[sizes == 0] = np.nan
    assert_close(compiled("triton")(rows, weights, sizes), expected, "float32")


def test_the_kernels_gradient_is_that_of_plain_jax() -> None:
    rows, weights, sizes = make_inputs(np.random.default_rng(0), [4, 0, 21], 24, 40, "float32")

    def loss(rows: jax.Array, weights: jax.Array, implementation: Any) -> jax.Array:
        return jnp.square(grouped_matmul(rows, weights, sizes, implementation=implementation)).sum()

    kernels, plain = (jax.grad(loss, (0, 1))(rows, weights, name) for name in IMPLEMENTATIONS)
    for one, other in zip(kernels, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rows": jnp.ones((4, 7))}, r"rows \(4, 7\) must be \[rows, 8\]"),
        ({"group_sizes": jnp.ones(2, jnp.int32)}, r"group_sizes \(2,\) must be \[3\]"),
        ({"weights": jnp.ones((3, 8, 5), jnp.int8)}, "weights of int8 must be of rows' float32, or int8 with scales"),
        ({"scales": jnp.ones((3, 5))}, "weights of float32 must be of rows' float32, or int8 with scales"),
        ({"weights": jnp.ones((3, 8, 5), jnp.int8), "scales": jnp.ones(5)}, r"scales \(5,\) must be \[3, 5\]"),
    ],
)
def test_says_what_does_not_fit(changed: dict[str, jax.Array], message: str) -> None:
    inputs = {"rows": jnp.ones((4, 8)), "weights": jnp.ones((3, 8, 5)), "group_sizes": jnp.asarray([1, 1, 2])}
    with pytest.raises(ValueError, match=message):
        grouped_matmul(**inputs | changed)


def test_int8_weights_whose_elements_pallas_cannot_count_are_refused() -> None:
    shapes = (((4, 2**15), "float32"), ((2, 2**15, 2**15), "int8"), ((2,), "int32"), ((2, 2**15), "float32"))
    arrays = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes]
    with pytest.raises(NotImplementedError, match="less than 2 GiB of int8 weights"):
        jax.eval_shape(functools.partial(grouped_matmul, implementation="triton"), *arrays)


@pytest.mark.parametrize("tile_rows", [1, 16, 32])
@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, ROWS), min_size=GROUPS - 1, max_size=GROUPS - 1))
def test_tiles_cover_every_row_once(tile_rows: int, cuts: list[int]) -> None:
    sizes = np.diff([0, *sorted(cuts), ROWS])
    plan = row_tiles(jnp.asarray(sizes), ROWS, tile_rows)
    assert len(plan.group) == max_tiles(ROWS, GROUPS, tile_rows)
    owners, covered = np.repeat(np.arange(GROUPS), sizes), np.zeros(ROWS, int)
    for group, begin, end in zip(*map(np.asarray, plan), strict=True):
        own = slice(begin, min(begin + tile_rows, end))
        assert (owners[own] == group).all()
        covered[own] += 1
    assert (covered == 1).all()


@pytest.mark.parametrize(("rows", "groups", "tile_rows", "tiles"), [(8, 128, 16, 8), (128, 8, 16, 15), (5, 1, 4, 2)])
def test_there_are_no_more_tiles_than_the_worst_sizes_need(rows: int, groups: int, tile_rows: int, tiles: int) -> None:
    assert max_tiles(rows, groups, tile_rows) == tiles
