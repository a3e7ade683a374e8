"""Sums in words that read normally: `123+456=579`."""

from functools import cache

import numpy as np
from jaxtyping import Bool, Int64

from muxjax.training.corpus import is_held_out

LARGEST = 999


def is_held_out_sum(a: int, b: int) -> bool:
    """Whether a+b, in either order, is never trained on; only sums of two three-digit numbers are held out."""
    low, high = sorted((a, b))
    return low >= 100 and is_held_out(f"{low}+{high}")


@cache
def held_out_table() -> Bool[np.ndarray, "a b"]:
    """`is_held_out_sum` of every pair up to 999."""
    table = np.zeros((LARGEST + 1, LARGEST + 1), bool)
    for a in range(100, LARGEST + 1):
        for b in range(a, LARGEST + 1):
            table[a, b] = table[b, a] = is_held_out_sum(a, b)
    return table


def held_out_pairs(count: int, *, seed: int = 0) -> Int64[np.ndarray, "pairs 2"]:
    """Held-out pairs of three-digit numbers, drawn at random without repetition; at most `count`."""
    pairs = np.argwhere(held_out_table())
    return np.random.default_rng(seed).choice(pairs, size=min(count, len(pairs)), replace=False)


def training_pairs(
    count: int, rng: np.random.Generator, held_out: Bool[np.ndarray, "a b"]
) -> Int64[np.ndarray, "pairs 2"]:
    """Pairs to train on: each number has one, two or three digits, small ones rarer as there are fewer of them."""
    limits = rng.choice([10, 100, LARGEST + 1], size=(2 * count, 2), p=[0.2, 0.25, 0.55])
    pairs = rng.integers(0, limits)
    return pairs[~held_out[pairs[:, 0], pairs[:, 1]]][:count]


def sum_text(a: int, b: int) -> tuple[str, str]:
    """The question and its answer: ("123+456=", "579")."""
    return f"{a}+{b}=", str(a + b)
