"""Padded sizes."""

import pytest

from muxjax.serving.executor.buckets import decode_buckets, prefill_buckets, smallest_bucket


@pytest.mark.parametrize(
    ("max_sequences", "min_rows", "buckets"),
    [(1, 1, (1,)), (32, 1, (1, 2, 4, 8, 16, 32)), (24, 2, (2, 4, 8, 16, 24)), (1, 2, (2,))],
)
def test_decode_sizes_double_up_to_the_most_sequences(max_sequences, min_rows, buckets):
    assert decode_buckets(max_sequences, min_rows) == buckets


@pytest.mark.parametrize(
    ("max_tokens", "buckets"),
    [(512, (16, 32, 64, 128, 256, 512)), (64, (16, 32, 64)), (16, (16,)), (8, (8,)), (100, (16, 32, 64, 100))],
)
def test_prefill_sizes_double_up_to_the_largest_chunk(max_tokens, buckets):
    assert prefill_buckets(max_tokens) == buckets


def test_a_size_goes_to_the_smallest_bucket_that_holds_it():
    assert [smallest_bucket((1, 4, 8), size) for size in (1, 2, 4, 5, 8)] == [1, 4, 4, 8, 8]
    with pytest.raises(ValueError, match="9 rows"):
        smallest_bucket((1, 4, 8), 9)
