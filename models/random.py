"""Random weights: a model's shape without a checkpoint, for measurements and tests."""

import jax
from flax import nnx
from jax.typing import DTypeLike

from muxjax.models.config import DecoderConfig
from muxjax.models.decoder import Decoder
from muxjax.models.registry import Architecture


def random_decoder(architecture: Architecture, config: DecoderConfig, *, dtype: DTypeLike, seed: int = 0) -> Decoder:
    """The decoder with seeded weights: the same for the same shape, dtype and seed."""

    @jax.jit  # one program instead of hundreds of small ones
    def build() -> Decoder:
        return architecture.build(config, dtype=dtype, rngs=nnx.Rngs(seed))

    return build()
