"""Rotary embeddings by their properties; their values are checked by test_parity.py."""

import jax.numpy as jnp
import numpy as np

from muxjax.models.rope import RopeConfig, apply_rope, frequencies, make_rotation
from muxjax.models.rope_scaling import Llama3Scaling


def test_scores_depend_on_distance_only() -> None:
    query, key = np.random.RandomState(0).standard_normal((2, 1, 1, 12)).astype(np.float32)

    def score(query_position: int, key_position: int) -> float:
        turned = (
            apply_rope(jnp.asarray(heads), make_rotation(jnp.asarray([position]), 12, RopeConfig()))
            for heads, position in ((query, query_position), (key, key_position))
        )
        return float(jnp.vdot(*turned))

    assert abs(score(9, 4) - score(105, 100)) < 1e-4
    assert abs(score(9, 4) - score(9, 5)) > 1e-3


def test_position_zero_turns_nothing() -> None:
    heads = jnp.ones((1, 2, 6))
    np.testing.assert_array_equal(apply_rope(heads, make_rotation(jnp.zeros(1, jnp.int32), 6, RopeConfig())), heads)


def test_llama3_scaling_keeps_short_waves_and_stretches_long_ones() -> None:
    plain = frequencies(RopeConfig(theta=500_000.0), 128, jnp.asarray([1]))
    scaling = Llama3Scaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context=8192)
    scaled = frequencies(RopeConfig(500_000.0, scaling), 128, jnp.asarray([1]))
    wavelengths = 2 * np.pi / plain
    np.testing.assert_array_equal(scaled[wavelengths < 8192 / 4], plain[wavelengths < 8192 / 4])
    np.testing.assert_allclose(scaled[wavelengths > 8192], plain[wavelengths > 8192] / 8, rtol=1e-6)
    between = (wavelengths > 8192 / 4) & (wavelengths < 8192)
    assert between.any()
    assert np.all((scaled[between] < plain[between]) & (scaled[between] > plain[between] / 8))
