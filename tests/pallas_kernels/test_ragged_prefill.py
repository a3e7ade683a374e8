"""ragged_prefill: every implementation gives the reference's attention for chunks of several sequences."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muxjax.pallas_kernels.ragged_prefill import ragged_prefill
from muxjax.pallas_kernels.ragged_prefill.reference import ragged_prefill_reference
from muxjax.pallas_kernels.ragged_prefill.shapes import SHAPES
from tests.pallas_kernels.cases import HEADS, OPTIONS, VARIANTS, Case, assert_close, make_case

IMPLEMENTATIONS = ["cpu", "triton", "xla"]
pytestmark = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)


@functools.cache
def compiled(implementation: str, **options: Any) -> Callable[..., jax.Array]:
    return jax.jit(lambda *arrays: ragged_prefill(*arrays, implementation=implementation, **options))


def check(case: Case, implementation: str, dtype: str = "float32", **options: Any) -> np.ndarray:
    tables = (case.page_blocks, case.page_table, case.starts, case.kv_lens)
    inputs = (case.queries, case.keys, case.values, case.pool, *tables)
    dim = case.queries.shape[-1]
    options.setdefault("sm_scale", dim**-0.5)
    output = np.asarray(compiled(implementation, **options)(*inputs))
    expected = ragged_prefill_reference(*inputs, **options)
    assert_close(output, expected, dtype, spread=options["sm_scale"] * dim**0.5)
    return output


@pytest.mark.parametrize(("head_dim", "group", "dtype"), HEADS)
def test_equals_reference(implementation: str, head_dim: int, group: int, dtype: str) -> None:
    rng = np.random.default_rng(head_dim + group)
    case = make_case(rng, past=[0, 17, 40], rows=[21, 5, 1], head_dim=head_dim, group=group, dtype=dtype)
    check(case, implementation, dtype)


def test_chunk_of_more_rows_than_any_block(implementation: str) -> None:
    check(make_case(np.random.default_rng(1), past=[77, 0], rows=[300, 150], kv_heads=1), implementation)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    lengths=st.lists(st.tuples(st.integers(0, 70), st.integers(0, 40)), min_size=1, max_size=4),
    variant=st.sampled_from(VARIANTS),
)
def test_any_lengths(
    implementation: str,
    seed: int,
    lengths: list[tuple[int, int]],
    variant: tuple[int, int, int, dict[str, Any]],
) -> None:
    kv_heads, group, page_tokens, options = variant
    case = make_case(
        np.random.default_rng(seed),
        past=[past for past, _ in lengths],
        rows=[rows for _, rows in lengths],
        kv_heads=kv_heads,
        group=group,
        head_dim=32,
        page_tokens=page_tokens,
        padding_rows=161 - sum(rows for _, rows in lengths),
        padding_sequences=4 - len(lengths),
        max_past=70,
    )
    check(case, implementation, **options)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32), options=OPTIONS)
def test_any_scale_window_and_cap(implementation: str, seed: int, options: dict[str, Any]) -> None:
    case = make_case(np.random.default_rng(seed), past=[0, 90, 31], rows=[100, 20, 7], kv_heads=1, group=3, head_dim=32)
    check(case, implementation, **options)


def test_padding_is_zero(implementation: str) -> None:
    case = make_case(np.random.default_rng(0), past=[5, 20], rows=[3, 4], padding_rows=9, padding_sequences=2)
    assert (check(case, implementation)[7:] == 0).all()


def test_pages_before_the_window_are_not_read(implementation: str) -> None:
    case = make_case(np.random.default_rng(2), past=[150, 40], rows=[5, 2], page_tokens=16)
    output = check(case, implementation, sliding_window=20)
    case.page_table[0, : (150 + 1 - 20) // 16] = 0
    case.page_table[1, : (40 + 1 - 20) // 16] = 0
    tables = (case.page_blocks, case.page_table, case.starts, case.kv_lens)
    without = compiled(implementation, sliding_window=20, sm_scale=64**-0.5)
    np.testing.assert_array_equal(without(case.queries, case.keys, case.values, case.pool, *tables), output)


@pytest.mark.parametrize("name", SHAPES)
def test_real_shapes(implementation: str, name: str) -> None:
    shape = SHAPES[name]
    case = make_case(
        np.random.default_rng(0),
        past=list(shape.past),
        rows=list(shape.rows),
        kv_heads=shape.kv_heads,
        group=shape.q_heads // shape.kv_heads,
        head_dim=shape.head_dim,
        page_tokens=4096 // shape.head_dim,
    )
    check(case, implementation)
