"""Random weights: a model's shape without a checkpoint, for measurements and tests."""

import re
from collections.abc import Mapping

import jax
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec, Sharding
from jaxtyping import Array

from muxjax.models.config import DecoderConfig
from muxjax.models.decoder import take_layer
from muxjax.models.quantization import Int8Weights
from muxjax.models.registry import Architecture
from muxjax.models.weights import LAYERS, Fit, Skeleton, flatten_names

_SEED = 0


def random_weights(
    architecture: Architecture, config: DecoderConfig, skeleton: Skeleton, fit: Fit
) -> dict[str, jax.Array | Int8Weights]:
    """Seeded parameters for the skeleton: the same for the same shape and dtype, be its layers stacked or apart.

    Each device makes its own part of them; layers that are to be apart are taken out of stacks of such parts.
    """
    dtype = next(iter(skeleton.leaves.values())).dtype
    is_taken_apart = skeleton.is_unrolled and config.is_stacked

    def build() -> dict[str, Array]:
        decoder = architecture.build(config, dtype=dtype, rngs=nnx.Rngs(_SEED))
        return flatten_names(nnx.to_pure_dict(nnx.state(decoder)))

    shardings = {name: leaf.sharding for name, leaf in skeleton.leaves.items()}
    # One program instead of hundreds of small ones.
    arrays = jax.jit(build, out_shardings=_of_stacks(shardings) if is_taken_apart else shardings)()
    fitted = {}
    while arrays:  # each stack is freed before the next one is taken apart
        name, array = arrays.popitem()
        if name in shardings:
            fitted[name] = fit(name, array)
            continue
        for index in range(config.num_layers):
            of_layer = name.replace(LAYERS, f"{LAYERS}{index}.", 1)
            fitted[of_layer] = fit(of_layer, take_layer(array, index))
    return fitted


def _of_stacks(shardings: Mapping[str, Sharding | None]) -> dict[str, Sharding | None]:
    """The same for stacks of all layers, by their names."""
    stacked = {}
    for name, sharding in shardings.items():
        stack = re.sub(rf"^{re.escape(LAYERS)}\d+\.", LAYERS, name)
        if stack != name and isinstance(sharding, NamedSharding):
            sharding = NamedSharding(sharding.mesh, PartitionSpec(None, *sharding.spec))
        stacked[stack] = sharding
    return stacked
