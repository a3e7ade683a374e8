"""Random inputs for the attention operations: sequences scattered over a pool whose every other number is NaN."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from muxjax.pallas_kernels.attention_inputs import lane_of

BLOCK_ELEMENTS = 512
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float16": jnp.float16}
# Relative to values of order one: the rounding of the inputs is the reference's too, that of the output is not.
TOLERANCE = {"float32": 2e-6, "bfloat16": 8e-3, "float16": 1e-3}

HEADS = [  # head size, query heads for each KV head, dtype
    (32, 1, "float32"),
    (64, 3, "float32"),
    (128, 8, "float32"),
    (256, 1, "float32"),
    (80, 3, "float32"),
    (20, 1, "float32"),
    (64, 8, "bfloat16"),
    (128, 1, "bfloat16"),
    (80, 2, "bfloat16"),
    (64, 3, "float16"),
]
# KV heads, query heads for each, tokens of a page, options: few, since each is another program to compile.
VARIANTS: list[tuple[int, int, int, dict[str, Any]]] = [
    (1, 1, 8, {}),
    (2, 3, 16, {"sliding_window": 21}),
    (1, 8, 24, {"sliding_window": 50, "soft_cap": 3.0}),
    (2, 2, 1, {"sliding_window": 1}),
]
# What LLMs ask of attention beyond the plain one.
OPTIONS = st.fixed_dictionaries(
    {
        "sm_scale": st.floats(0.01, 0.4),
        "sliding_window": st.none() | st.integers(1, 200),
        "soft_cap": st.none() | st.floats(0.1, 100.0) | st.floats(100.0, 10_000.0),
    }
)


@dataclass(frozen=True)
class Case:
    """Arrays as the operations take them, in NumPy; `starts` delimits each sequence's rows."""

    queries: np.ndarray
    keys: np.ndarray
    values: np.ndarray
    pool: np.ndarray
    page_blocks: np.ndarray
    page_table: np.ndarray
    starts: np.ndarray
    kv_lens: np.ndarray


def make_case(
    rng: np.random.Generator,
    *,
    past: list[int],
    rows: list[int],
    kv_heads: int = 2,
    group: int = 1,
    head_dim: int = 64,
    dtype: str = "float32",
    padding_rows: int = 0,
    padding_sequences: int = 0,
    page_tokens: int | None = None,
    max_past: int | None = None,
) -> Case:
    """Sequence s has `past[s]` tokens in the pool and `rows[s]` new ones; equal `max_past` gives equal shapes."""
    element = DTYPES[dtype]
    lane = lane_of(head_dim)
    page_tokens = page_tokens or max(BLOCK_ELEMENTS // lane, 1)
    pages_of = [-(-length // page_tokens) for length in past]
    max_pages = -(-(max_past or max([*past, 1])) // page_tokens)
    num_pages = 1 + len(past) * max_pages + 2
    num_blocks = 1 + num_pages * kv_heads + 3
    pool = np.full((num_blocks, 2, page_tokens, lane), np.nan, dtype=element)
    # Page 0 is the null page, all of it block 0.
    page_blocks = np.zeros((num_pages, kv_heads), dtype=np.int32)
    page_blocks[1:] = 1 + rng.permutation(num_blocks - 1)[: (num_pages - 1) * kv_heads].reshape(-1, kv_heads)
    pages = iter(1 + rng.permutation(num_pages - 1))
    sequences = len(past) + padding_sequences
    page_table = np.zeros((sequences, max_pages + 1), dtype=np.int32)
    for seq, length in enumerate(past):
        page_table[seq, : pages_of[seq]] = [next(pages) for _ in range(pages_of[seq])]
        for token in range(length):
            page, offset = page_table[seq, token // page_tokens], token % page_tokens
            pool[page_blocks[page], :, offset] = 0
            pool[page_blocks[page], :, offset, :head_dim] = rng.standard_normal((kv_heads, 2, head_dim))
    total = sum(rows) + padding_rows
    new = rng.standard_normal((2, total, kv_heads, head_dim)).astype(element)
    queries = rng.standard_normal((total, kv_heads * group, head_dim)).astype(element)
    for array in (queries, *new):
        array[sum(rows) :] = np.nan
    lengths = np.array([*rows, *[0] * padding_sequences])
    return Case(
        queries=queries,
        keys=new[0],
        values=new[1],
        pool=pool,
        page_blocks=page_blocks,
        page_table=page_table,
        starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        kv_lens=(np.array([*past, *[0] * padding_sequences]) + lengths).astype(np.int32),
    )


def assert_close(actual: object, expected: np.ndarray, dtype: str, spread: float = 1) -> None:
    """Compares within the rounding of the output's dtype; NaN and infinity never pass.

    Scores are rounded relative to their size, and the rounding of a score is the relative error of its weight:
    `spread` is the standard deviation of the scores.
    """
    actual = np.asarray(actual, dtype=np.float64)
    assert np.isfinite(actual).all()
    tolerance = TOLERANCE[dtype] * max(spread, 1)
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)
