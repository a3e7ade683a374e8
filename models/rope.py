"""Rotary position embeddings (Su et al. 2021), with the scaling of Llama 3.1."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from muxjax.models.config import Llama3Scaling, RopeConfig


def inverse_frequencies(config: RopeConfig, head_dim: int) -> Float[np.ndarray, " half"]:
    """Radians per position of each rotated pair: theta^(-2i / head_dim), scaled.

    Every step rounds to float32, as where the models were trained: one unit in the last place of a frequency turns
    position 100,000 by up to 0.006 radians.
    """
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    powers = np.power(config.theta, exponents, dtype=np.float64).astype(np.float32)
    frequencies = np.float32(1) / powers
    return frequencies if config.scaling is None else _stretch(frequencies, config.scaling)


def _stretch(frequencies: Float[np.ndarray, " half"], scaling: Llama3Scaling) -> Float[np.ndarray, " half"]:
    wavelengths = np.float32(2 * math.pi) / frequencies
    turns = np.float32(scaling.original_context) / wavelengths  # over the original context
    keep = (turns - np.float32(scaling.low_freq_factor)) / np.float32(
        scaling.high_freq_factor - scaling.low_freq_factor
    )
    keep = np.clip(keep, 0, 1)
    stretched: np.ndarray = (1 - keep) * frequencies / np.float32(scaling.factor) + keep * frequencies
    return stretched


def apply_rope(
    heads: Float[Array, "tokens heads dim"], positions: Int[Array, " tokens"], config: RopeConfig
) -> Float[Array, "tokens heads dim"]:
    """Turn each head by its token's position, in float32.

    Element i of a head is paired with element i + dim/2 (Hugging Face's order of the weights).
    """
    frequencies = inverse_frequencies(config, heads.shape[-1])
    angles = positions[:, None, None].astype(jnp.float32) * frequencies
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    first, second = jnp.split(heads.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(heads.dtype)
