"""ragged_prefill in Mosaic: the properties of test_ragged_prefill.py at few, small shapes: its interpreter is slow."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pallas_kernels.cases import OPTIONS, make_case
from tests.pallas_kernels.test_ragged_prefill import check, compiled

# Query heads for each KV head, tokens of a page, options.
VARIANTS: list[tuple[int, int, dict[str, Any]]] = [
    (1, 64, {}),
    (3, 16, {"sliding_window": 21, "soft_cap": 3.0}),
]


@pytest.mark.parametrize(
    ("head_dim", "group", "dtype"),
    [(64, 3, "bfloat16"), (128, 1, "bfloat16"), (80, 5, "float16"), (64, 16, "float16")],
)
def test_equals_reference(head_dim: int, group: int, dtype: str) -> None:
    rng = np.random.default_rng(head_dim + group)
    case = make_case(
        rng, past=[0, 17, 150], rows=[21, 5, 1], kv_heads=2, head_dim=head_dim, group=group, dtype=dtype, page_tokens=32
    )
    check(case, "mosaic", dtype)


def test_chunk_of_more_rows_than_any_block() -> None:
    case = make_case(
        np.random.default_rng(1), past=[77, 0], rows=[150, 140], kv_heads=1, dtype="bfloat16", page_tokens=64
    )
    check(case, "mosaic", "bfloat16")


@settings(max_examples=4, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    lengths=st.lists(st.tuples(st.integers(0, 140), st.integers(0, 40)), min_size=1, max_size=3),
    variant=st.sampled_from(VARIANTS),
)
def test_any_lengths(seed: int, lengths: list[tuple[int, int]], variant: tuple[int, int, dict[str, Any]]) -> None:
    group, page_tokens, options = variant
    rows = sum(rows for _, rows in lengths)
    case = make_case(
        np.random.default_rng(seed),
        past=[past for past, _ in lengths],
        rows=[rows for _, rows in lengths],
        kv_heads=1,
        group=group,
        dtype="bfloat16",
        page_tokens=page_tokens,
        padding_rows=121 - rows,
        padding_sequences=3 - len(lengths),
        max_past=140,
    )
    output = check(case, "mosaic", "bfloat16", **options)
    assert (output[rows:] == 0).all()


@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 2**32), options=OPTIONS)
def test_any_scale_window_and_cap(seed: int, options: dict[str, Any]) -> None:
    case = make_case(
        np.random.default_rng(seed),
        past=[0, 200, 31],
        rows=[60, 20, 7],
        kv_heads=1,
        group=2,
        dtype="float16",
        page_tokens=32,
    )
    check(case, "mosaic", "float16", **options)


@pytest.mark.parametrize("page_tokens", [128, 256])
def test_pages_as_large_as_a_tile_and_larger(page_tokens: int) -> None:
    case = make_case(
        np.random.default_rng(0), past=[300], rows=[4], kv_heads=1, dtype="bfloat16", page_tokens=page_tokens
    )
    check(case, "mosaic", "bfloat16", sliding_window=250)


def test_pages_before_the_window_are_not_read() -> None:
    case = make_case(np.random.default_rng(2), past=[200], rows=[5], kv_heads=1, dtype="bfloat16", page_tokens=16)
    output = check(case, "mosaic", "bfloat16", sliding_window=20)
    case.page_table[0, : (200 + 1 - 20) // 16] = 0
    tables = (case.page_blocks, case.page_table, case.starts, case.kv_lens)
    without = compiled("mosaic", sliding_window=20, sm_scale=64**-0.5)
    np.testing.assert_array_equal(without(case.queries, case.keys, case.values, case.pool, *tables), output)
