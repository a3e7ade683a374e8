"""Rotary position embeddings (Su et al. 2021)."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from muxjax.models.errors import ConfigError
from muxjax.models.rope_scaling import Frequencies, RopeScaling, plain_frequencies

Rotation = tuple[Float[Array, "tokens 1 half"], Float[Array, "tokens 1 half"]]
Rotate = Callable[[Float[Array, "tokens heads dim"]], Float[Array, "tokens heads dim"]]
"""Turns the heads of the tokens of a call by their positions."""


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """A model's rotation.

    Attributes:
        theta: the base of the frequencies.
        scaling: how it reaches past the original context, if it does.
        rotary_dim: how many of a head's first elements are rotated; None for all.
    """

    theta: float = 10_000.0
    scaling: RopeScaling | None = None
    rotary_dim: int | None = None

    def __post_init__(self) -> None:
        if not self.theta > 0:
            raise ConfigError(f"RoPE's theta must be positive, not {self.theta}")
        if self.rotary_dim is not None and (self.rotary_dim < 2 or self.rotary_dim % 2):
            raise ConfigError(f"RoPE must rotate an even number of elements, not {self.rotary_dim}")

    def check_head(self, head_dim: int) -> None:
        """Raises ConfigError if heads of this size cannot be rotated."""
        if self.rotary_dim is None and head_dim % 2:
            raise ConfigError(f"head_dim must be even for rotary embeddings, not {head_dim}")
        if self.rotary_dim is not None and self.rotary_dim > head_dim:
            raise ConfigError(f"RoPE cannot rotate {self.rotary_dim} elements of heads of {head_dim}")
        if self.scaling is not None:
            self.scaling.check_pairs((self.rotary_dim or head_dim) // 2)

    @property
    def length_switch(self) -> int | None:
        """Sequences longer than this are rotated in another way than shorter ones; None if length does not matter."""
        return None if self.scaling is None else self.scaling.length_switch


def frequencies(config: RopeConfig, head_dim: int, lengths: Int[Array, " tokens"]) -> Frequencies:
    """Radians per position of each rotated pair, for tokens of sequences of these lengths."""
    dim = head_dim if config.rotary_dim is None else config.rotary_dim
    if config.scaling is None:
        return plain_frequencies(config.theta, dim)
    return config.scaling.frequencies(config.theta, dim, lengths)


def make_rotation(
    positions: Int[Array, " tokens"], head_dim: int, config: RopeConfig, lengths: Int[Array, " tokens"] | None = None
) -> Rotation:
    """Cosine and sine of each token's angles, in float32; `lengths` are as for `Decoder.__call__`."""
    if lengths is None:
        lengths = jnp.full_like(positions, jnp.max(positions) + 1)
    angles = (positions[:, None].astype(jnp.float32) * frequencies(config, head_dim, lengths))[:, None]
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    if config.scaling is not None and config.scaling.magnitude != 1:
        cos, sin = cos * config.scaling.magnitude, sin * config.scaling.magnitude
    # The barrier keeps XLA from working them out again for every head and layer.
    return jax.lax.optimization_barrier((cos, sin))


def apply_rope(heads: Float[Array, "tokens heads dim"], rotation: Rotation) -> Float[Array, "tokens heads dim"]:
    """Turn each head by its token's rotation, in float32.

    Element i of the rotated part is paired with element i + half (Hugging Face's order of the weights); what lies
    behind that part passes unchanged.
    """
    cos, sin = rotation
    half = cos.shape[-1]
    wide = heads.astype(jnp.float32)
    first, second, rest = wide[..., :half], wide[..., half : 2 * half], wide[..., 2 * half :]
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin, rest], axis=-1)
    return turned.astype(heads.dtype)
