"""Rotary position embeddings (Su et al. 2021), with the scaling of Llama 3.1."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from muxjax.models.config import Llama3Scaling, RopeConfig

Rotation = tuple[Float[Array, "tokens 1 half"], Float[Array, "tokens 1 half"]]


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


def make_rotation(positions: Int[Array, " tokens"], head_dim: int, config: RopeConfig) -> Rotation:
    """Cosine and sine of each token's angles, in float32."""
    angles = positions[:, None, None].astype(jnp.float32) * inverse_frequencies(config, head_dim)
    # The barrier keeps XLA from working them out again for every head.
    return jax.lax.optimization_barrier((jnp.cos(angles), jnp.sin(angles)))


def apply_rope(heads: Float[Array, "tokens heads dim"], rotation: Rotation) -> Float[Array, "tokens heads dim"]:
    """Turn each head by its token's rotation, in float32.

    Element i of a head is paired with element i + dim/2 (Hugging Face's order of the weights).
    """
    cos, sin = rotation
    first, second = jnp.split(heads.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(heads.dtype)
