"""Threefry against its authors' test vectors and JAX's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry2x32_p

from muxjax.serving.random_bits import threefry2x32


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_gives_the_published_known_answers(key, counter, expected):
    words = threefry2x32(tuple(jnp.uint32(word) for word in key), tuple(jnp.uint32(word) for word in counter))
    assert tuple(int(word) for word in words) == expected


def test_is_the_function_that_jax_has():
    words = np.random.default_rng(0).integers(0, 2**32, (4, 1000), dtype=np.uint32)
    mine = jax.jit(threefry2x32)((words[0], words[1]), (words[2], words[3]))
    assert np.array_equal(mine, threefry2x32_p.bind(*(jnp.asarray(word) for word in words)))
