"""Flash-decoding's plan: every token that is seen is in one piece, and no piece is much larger than its share."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

from muxjax.pallas_kernels.multiprocessors import multiprocessors
from muxjax.pallas_kernels.paged_decode.pieces import cut_into_pieces

SEQUENCES = 5


@settings(max_examples=60, deadline=None)
@given(
    kv_lens=st.lists(st.integers(0, 40) | st.integers(0, 5000), min_size=SEQUENCES, max_size=SEQUENCES),
    window=st.none() | st.integers(1, 3000),
    wanted=st.sampled_from([1, 3, 64]),
    unit=st.sampled_from([1, 16, 64]),
)
def test_pieces_cover_what_is_seen_once(kv_lens: list[int], window: int | None, wanted: int, unit: int) -> None:
    pieces = cut_into_pieces(jnp.asarray(kv_lens), window, wanted=wanted, unit_tokens=unit)
    owner, begin, end, starts = (np.asarray(array) for array in pieces)
    assert owner.shape == begin.shape == end.shape == (SEQUENCES + wanted,)
    share = -(-sum(length + unit for length in kv_lens) // wanted) + unit
    for seq, kv_len in enumerate(kv_lens):
        own = slice(starts[seq], starts[seq + 1])
        first = max(kv_len - (window or kv_len), 0)
        assert (owner[own] == seq).all()
        assert begin[own][0] == first
        assert end[own][-1] == max(kv_len - 1, 0)
        assert (begin[own][1:] == end[own][:-1]).all()
        assert (begin[own][1:] % unit == 0).all()
        sizes = end[own] - begin[own]
        assert (sizes > 0).all() or (len(sizes) == 1 and sizes[0] == 0)
        assert sizes.max() <= share
    assert (owner[starts[-1] :] == SEQUENCES).all()


@pytest.mark.parametrize(("kv_lens", "count"), [([8193], 64), ([8193] * 64, 64), ([129] * 16, 16), ([0, 0], 2)])
def test_as_many_pieces_as_wanted_unless_they_would_be_small(kv_lens: list[int], count: int) -> None:
    pieces = cut_into_pieces(jnp.asarray(kv_lens), None, wanted=64, unit_tokens=128)
    assert int(pieces.starts[-1]) == count


def test_multiprocessors_are_those_of_the_gpu_that_is_compiled_for() -> None:
    gpu = AbstractDevice(device_kind="NVIDIA A100", num_cores=108, platform="gpu")
    with use_abstract_mesh(AbstractMesh((), (), abstract_device=gpu)):
        assert multiprocessors() == 108
