"""int8_matmul: every implementation gives the reference's product."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muxjax.pallas_kernels.int8_matmul import int8_matmul
from muxjax.pallas_kernels.int8_matmul.cpu import MAX_ROWS
from muxjax.pallas_kernels.int8_matmul.reference import int8_matmul_reference
from tests.pallas_kernels.cases import DTYPES, assert_close

each_implementation = pytest.mark.parametrize("implementation", ["cpu", "xla"])
SHAPES = [(1, 1), (7, 5), (32, 128), (33, 130), (100, 257), (64, 16)]  # in, out; few are multiples of a panel's sizes


def make_inputs(rng: np.random.Generator, rows: int, inner: int, columns: int, dtype: str) -> tuple[np.ndarray, ...]:
    """Arrays whose product is of order one."""
    scales = rng.uniform(0.001, 0.01, columns) / inner**0.5
    values = rng.integers(-128, 128, (inner, columns), np.int8)
    return rng.standard_normal((rows, inner)).astype(DTYPES[dtype]), values, scales.astype(np.float32)


@functools.cache
def compiled(implementation: str, dtype: str | None = None) -> Callable[..., jax.Array]:
    return jax.jit(functools.partial(int8_matmul, implementation=implementation, dtype=dtype))


@each_implementation
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 2, 3, 7, 32, 37])
def test_equals_reference(implementation: str, rows: int, dtype: str) -> None:
    for inner, columns in SHAPES:
        inputs = make_inputs(np.random.default_rng(rows), rows, inner, columns, dtype)
        product = compiled(implementation)(*inputs)
        assert product.dtype == DTYPES[dtype]
        assert_close(product, int8_matmul_reference(*inputs), dtype)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32), rows=st.integers(1, 40), shape=st.sampled_from(SHAPES), dtype=st.sampled_from([*DTYPES])
)
def test_any_numbers_in_c(seed: int, rows: int, shape: tuple[int, int], dtype: str) -> None:
    inputs = make_inputs(np.random.default_rng(seed), rows, *shape, dtype)
    product = compiled("cpu", "float32")(*inputs)
    assert product.dtype == jnp.float32
    assert_close(product, int8_matmul_reference(*inputs), "float32")


@each_implementation
def test_a_row_does_not_depend_on_its_neighbours(implementation: str) -> None:
    rows, values, scales = make_inputs(np.random.default_rng(0), 7, 100, 257, "float32")
    rows[[0, 2, 6]] = np.nan
    product = np.asarray(compiled(implementation)(rows, values, scales))
    assert np.isfinite(product[[1, 3, 4, 5]]).all()


def test_many_rows_go_to_xla() -> None:
    inputs = make_inputs(np.random.default_rng(0), MAX_ROWS + 1, 4, 4, "float32")
    with pytest.raises(NotImplementedError, match=f"at most {MAX_ROWS} rows, not {MAX_ROWS + 1}"):
        compiled("cpu")(*inputs)
    assert_close(int8_matmul(*inputs), int8_matmul_reference(*inputs), "float32")


@each_implementation
def test_takes_one_of_a_stack(implementation: str) -> None:
    stack = [make_inputs(np.random.default_rng(group), 3, 33, 130, "float32") for group in range(4)]
    rows, values, scales = stack[0][0], *(np.stack(arrays) for arrays in list(zip(*stack, strict=True))[1:])
    for group in range(4):
        product = compiled(implementation)(rows, values, scales, group)
        assert_close(product, int8_matmul_reference(rows, *stack[group][1:]), "float32")


@pytest.mark.parametrize("group", [-1, 3])
def test_refuses_a_group_outside(group: int) -> None:
    stack = jnp.ones((3, 8, 5), jnp.int8), jnp.ones((3, 5))
    with pytest.raises(jax.errors.JaxRuntimeError, match=rf"group {group} is not in 0\.\.2"):
        compiled("cpu")(jnp.ones((1, 8)), *stack, group).block_until_ready()


def test_weights_are_neither_copied_nor_widened_in_memory() -> None:
    shapes = ((4, 512), "float32"), ((3, 512, 2048), "int8"), ((3, 2048), "float32"), ((), "int32")
    arrays = [jax.ShapeDtypeStruct(*shape) for shape in shapes]
    memory = compiled("cpu").lower(*arrays).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 512 * 2048


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rows": jnp.ones((4, 7))}, r"rows \(4, 7\) and values \(8, 5\) must be \[rows, in\] and \[in, out\]"),
        ({"values": jnp.ones((8, 5))}, "must be int8 and float32, not float32, float32"),
        ({"scales": jnp.ones(4)}, r"scales \(4,\) must be \[5\] as values \(8, 5\)"),
        ({"group": jnp.int32(0)}, r"values \(5,\) must be"),
    ],
)
def test_says_what_does_not_fit(changed: dict[str, jax.Array], message: str) -> None:
    inputs = {"rows": jnp.ones((4, 8)), "values": jnp.ones((8, 5), jnp.int8), "scales": jnp.ones(5)}
    with pytest.raises(ValueError, match=message):
        int8_matmul(**inputs | changed)
