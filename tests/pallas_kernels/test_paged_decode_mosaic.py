"""paged_decode in Mosaic: the properties of test_paged_decode.py at few, small shapes: its interpreter is slow."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muxjax.pallas_kernels.paged_decode.shapes import SHAPES
from tests.pallas_kernels.cases import OPTIONS, make_case
from tests.pallas_kernels.test_paged_decode import check

# KV heads, query heads for each, tokens of a page, options.
VARIANTS: list[tuple[int, int, int, dict[str, Any]]] = [
    (1, 1, 8, {}),
    (2, 3, 16, {"sliding_window": 21, "soft_cap": 3.0}),
]


@pytest.mark.parametrize(
    ("head_dim", "group", "dtype"),
    [(64, 8, "bfloat16"), (128, 1, "bfloat16"), (80, 5, "float16"), (256, 3, "float16")],
)
def test_equals_reference(head_dim: int, group: int, dtype: str) -> None:
    rng = np.random.default_rng(head_dim + group)
    case = make_case(
        rng,
        past=[0, 33, 150],
        rows=[1] * 3,
        kv_heads=1,
        head_dim=head_dim,
        group=group,
        dtype=dtype,
        page_tokens=8,
    )
    check(case, "mosaic", dtype)


@settings(max_examples=3, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    past=st.lists(st.integers(0, 140), min_size=1, max_size=3),
    variant=st.sampled_from(VARIANTS),
)
def test_any_lengths(seed: int, past: list[int], variant: tuple[int, int, int, dict[str, Any]]) -> None:
    kv_heads, group, page_tokens, options = variant
    padding = 3 - len(past)
    case = make_case(
        np.random.default_rng(seed),
        past=past,
        rows=[1] * len(past),
        kv_heads=kv_heads,
        group=group,
        dtype="bfloat16",
        page_tokens=page_tokens,
        padding_rows=padding,
        padding_sequences=padding,
        max_past=140,
    )
    output = check(case, "mosaic", "bfloat16", **options)
    assert (output[len(past) :] == 0).all()


@settings(max_examples=2, deadline=None)
@given(seed=st.integers(0, 2**32), options=OPTIONS)
def test_any_scale_window_and_cap(seed: int, options: dict[str, Any]) -> None:
    case = make_case(
        np.random.default_rng(seed),
        past=[0, 5, 150],
        rows=[1] * 3,
        kv_heads=1,
        group=3,
        dtype="float16",
        page_tokens=32,
    )
    check(case, "mosaic", "float16", **options)


@pytest.mark.parametrize("page_tokens", [64, 128])
def test_pages_as_large_as_a_tile_and_larger(page_tokens: int) -> None:
    case = make_case(
        np.random.default_rng(0), past=[200], rows=[1], kv_heads=1, dtype="bfloat16", page_tokens=page_tokens
    )
    check(case, "mosaic", "bfloat16", sliding_window=150)


def test_real_shape() -> None:
    shape = SHAPES["llama-125m, batch 1"]
    case = make_case(
        np.random.default_rng(0),
        past=[shape.kv_len - 1],
        rows=[1],
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        dtype="bfloat16",
        page_tokens=64,
    )
    check(case, "mosaic", "bfloat16")
