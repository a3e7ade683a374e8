"""Random weights: a model's shape without a checkpoint, for measurements and tests."""

import jax
from flax import nnx

from muxjax.models.config import DecoderConfig
from muxjax.models.decoder import Decoder
from muxjax.models.quantization import Int8Weights
from muxjax.models.registry import Architecture
from muxjax.models.weights import Fit, Skeleton, flatten_names

_SEED = 0


def random_weights(
    architecture: Architecture, config: DecoderConfig, skeleton: Skeleton, fit: Fit
) -> dict[str, jax.Array | Int8Weights]:
    """Seeded parameters for the skeleton: the same for the same shape and dtype, be its layers stacked or apart."""
    dtype = next(iter(skeleton.leaves.values())).dtype

    @jax.jit  # one program instead of hundreds of small ones
    def build() -> Decoder:
        return architecture.build(config, dtype=dtype, rngs=nnx.Rngs(_SEED))

    decoder = build()
    if skeleton.is_unrolled:
        decoder.unroll()
    arrays = flatten_names(nnx.to_pure_dict(nnx.state(decoder)))
    del decoder
    fitted = {}
    for name, leaf in skeleton.leaves.items():
        array = arrays.pop(name)
        fitted[name] = fit(name, array if leaf.sharding is None else jax.device_put(array, leaf.sharding))
    return fitted
