"""pool_write: every implementation writes the reference's pool, bit for bit."""

import functools
from collections.abc import Callable

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muxjax.pallas_kernels.attention_inputs import lane_of
from muxjax.pallas_kernels.pool_write import pool_write
from muxjax.pallas_kernels.pool_write.reference import pool_write_reference
from tests.pallas_kernels.cases import DTYPES

IMPLEMENTATIONS = ["cpu", "mosaic", "triton", "xla"]
each_implementation = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)


def make_inputs(
    rng: np.random.Generator, *, layers: int, rows: int, kv_heads: int, head_dim: int, pages: int, dtype: str
) -> tuple[np.ndarray, ...]:
    """A pool full of NaN, and tokens for random distinct slots, a third of them padding."""
    lane, element = lane_of(head_dim), DTYPES[dtype]
    page_tokens = max(256 // lane, 1)
    blocks_per_layer = pages * kv_heads
    pool = np.full((layers * blocks_per_layer + 2, 2, page_tokens, lane), np.nan, dtype=element)
    blocks = 1 + rng.permutation(layers * blocks_per_layer + 1)[: layers * blocks_per_layer]
    keys, values = rng.standard_normal((2, layers, rows, kv_heads, head_dim)).astype(element)
    slots = rng.permutation(max(pages * page_tokens, rows))[:rows]
    slots[(slots >= pages * page_tokens) | (rng.random(rows) < 0.3)] = -1
    return pool, keys, values, blocks.reshape(layers, pages, kv_heads).astype(np.int32), slots.astype(np.int32)


@functools.cache
def compiled(implementation: str) -> Callable[..., jax.Array]:
    return jax.jit(functools.partial(pool_write, implementation=implementation))


def assert_same(pool: object, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(np.asarray(pool).astype(np.float32), expected.astype(np.float32))


@each_implementation
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    shape=st.sampled_from([(1, 1, 1, 64, 1), (3, 12, 2, 20, 4), (2, 5, 3, 32, 1), (2, 7, 1, 256, 5)]),
    dtype=st.sampled_from(list(DTYPES)),
)
def test_equals_reference(implementation: str, seed: int, shape: tuple[int, int, int, int, int], dtype: str) -> None:
    layers, rows, kv_heads, head_dim, pages = shape
    rng = np.random.default_rng(seed)
    inputs = make_inputs(rng, layers=layers, rows=rows, kv_heads=kv_heads, head_dim=head_dim, pages=pages, dtype=dtype)
    assert_same(compiled(implementation)(*inputs), pool_write_reference(*inputs))


@each_implementation
def test_converts_to_the_pools_dtype(implementation: str) -> None:
    rng = np.random.default_rng(0)
    pool, keys, values, *tables = make_inputs(rng, layers=1, rows=4, kv_heads=2, head_dim=32, pages=2, dtype="bfloat16")
    exact = keys.astype(np.float32) + 1e-3, values.astype(np.float32) - 1e-3
    rounded = (x.astype(pool.dtype) for x in exact)
    assert_same(compiled(implementation)(pool, *exact, *tables), pool_write_reference(pool, *rounded, *tables))


@each_implementation
@pytest.mark.parametrize("head_dim", [32, 256])
def test_takes_the_units_pool_as_it_is(implementation: str, head_dim: int) -> None:
    """An LLM with narrower or wider heads writes to a pool that is shaped for heads of 128."""
    rng = np.random.default_rng(0)
    view, *rest = make_inputs(rng, layers=2, rows=6, kv_heads=2, head_dim=head_dim, pages=7, dtype="float32")
    pool = view.reshape(len(view), 2, 2, 128)
    written = compiled(implementation)(pool, *rest)
    assert written.shape == pool.shape
    assert_same(written.reshape(view.shape), pool_write_reference(view, *rest))


@each_implementation
def test_rows_that_are_all_padding_write_nothing(implementation: str) -> None:
    rng = np.random.default_rng(0)
    pool, keys, values, blocks, slots = make_inputs(
        rng, layers=1, rows=3, kv_heads=1, head_dim=64, pages=2, dtype="float16"
    )
    assert_same(compiled(implementation)(pool, keys, values, blocks, np.full_like(slots, -1)), pool)


def test_mosaic_names_who_writes_heads_that_are_too_narrow_for_it() -> None:
    inputs = make_inputs(np.random.default_rng(0), layers=1, rows=1, kv_heads=1, head_dim=4, pages=1, dtype="float16")
    with pytest.raises(NotImplementedError, match="not 4 of float16; 'triton' and 'xla' do"):
        compiled("mosaic")(*inputs)
