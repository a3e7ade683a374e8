"""Padded sizes: a program is compiled for each, so there are few of them."""

MAX_PREFILL_SEQUENCES = 8
"""Sequences of one prefill chunk, at most; every prefill program has rows for as many."""

_MIN_PREFILL_TOKENS = 16


def decode_buckets(max_sequences: int, min_rows: int) -> tuple[int, ...]:
    """Batch sizes of decode programs: doubling from `min_rows`, and `max_sequences` itself."""
    return _doubling(min_rows, max(max_sequences, min_rows))


def prefill_buckets(max_tokens: int) -> tuple[int, ...]:
    """Token counts of prefill programs: doubling from 16, and `max_tokens` itself."""
    return _doubling(min(_MIN_PREFILL_TOKENS, max_tokens), max_tokens)


def coarse(buckets: tuple[int, ...]) -> tuple[int, ...]:
    """Every other bucket, the largest one among them: for programs that combine sizes, whose number multiplies."""
    return buckets[(len(buckets) - 1) % 2 :: 2]


def smallest_bucket(buckets: tuple[int, ...], size: int) -> int:
    """The smallest bucket that holds `size`; raises ValueError when none does."""
    for bucket in buckets:
        if bucket >= size:
            return bucket
    raise ValueError(f"{size} rows do not fit in the largest bucket, {buckets[-1]}")


def _doubling(first: int, last: int) -> tuple[int, ...]:
    sizes = []
    size = first
    while size < last:
        sizes.append(size)
        size *= 2
    return (*sizes, last)
