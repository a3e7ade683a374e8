"""paged_decode: every implementation gives the reference's attention, and sees nothing but the reader's own tokens."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muxjax.pallas_kernels.paged_decode import paged_decode
from muxjax.pallas_kernels.paged_decode.reference import paged_decode_reference
from muxjax.pallas_kernels.paged_decode.shapes import SHAPES
from tests.pallas_kernels.cases import HEADS, OPTIONS, VARIANTS, Case, assert_close, make_case

IMPLEMENTATIONS = ["cpu", "triton", "xla"]
pytestmark = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)


@functools.cache
def compiled(implementation: str, **options: Any) -> Callable[..., jax.Array]:
    return jax.jit(lambda *arrays: paged_decode(*arrays, implementation=implementation, **options))


def check(case: Case, implementation: str, dtype: str = "float32", **options: Any) -> np.ndarray:
    tables = (case.page_blocks, case.page_table, case.kv_lens)
    inputs = (case.queries, case.keys, case.values, case.pool, *tables)
    dim = case.queries.shape[-1]
    options.setdefault("sm_scale", dim**-0.5)
    output = np.asarray(compiled(implementation, **options)(*inputs))
    expected = paged_decode_reference(*inputs, **options)
    assert_close(output, expected, dtype, spread=options["sm_scale"] * dim**0.5)
    return output


@pytest.mark.parametrize(("head_dim", "group", "dtype"), HEADS)
def test_equals_reference(implementation: str, head_dim: int, group: int, dtype: str) -> None:
    rng = np.random.default_rng(head_dim + group)
    case = make_case(rng, past=[0, 1, 33, 8, 100], rows=[1] * 5, head_dim=head_dim, group=group, dtype=dtype)
    check(case, implementation, dtype)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    past=st.lists(st.integers(0, 70), min_size=1, max_size=6),
    variant=st.sampled_from(VARIANTS),
)
def test_any_lengths(
    implementation: str, seed: int, past: list[int], variant: tuple[int, int, int, dict[str, Any]]
) -> None:
    kv_heads, group, page_tokens, options = variant
    padding = 6 - len(past)
    case = make_case(
        np.random.default_rng(seed),
        past=past,
        rows=[1] * len(past),
        kv_heads=kv_heads,
        group=group,
        head_dim=32,
        page_tokens=page_tokens,
        padding_rows=padding,
        padding_sequences=padding,
        max_past=70,
    )
    check(case, implementation, **options)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32), options=OPTIONS)
def test_any_scale_window_and_cap(implementation: str, seed: int, options: dict[str, Any]) -> None:
    case = make_case(np.random.default_rng(seed), past=[0, 5, 64, 150], rows=[1] * 4, kv_heads=1, group=3, head_dim=32)
    check(case, implementation, **options)


def test_padding_rows_are_zero(implementation: str) -> None:
    case = make_case(np.random.default_rng(0), past=[5, 20], rows=[1, 1], padding_rows=3, padding_sequences=3)
    assert (check(case, implementation)[2:] == 0).all()


@pytest.mark.parametrize("name", SHAPES)
def test_real_shapes(implementation: str, name: str) -> None:
    shape = SHAPES[name]
    case = make_case(
        np.random.default_rng(0),
        past=[shape.kv_len - 1] * shape.sequences,
        rows=[1] * shape.sequences,
        kv_heads=shape.kv_heads,
        group=shape.q_heads // shape.kv_heads,
        head_dim=shape.head_dim,
        page_tokens=4096 // shape.head_dim,
    )
    check(case, implementation)
