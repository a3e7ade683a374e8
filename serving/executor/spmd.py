"""Programs on all devices of a unit at once, and which part of what they are given each device has.

With one device all of it. With several (tensor parallelism), a program sees its own device's part, as if that were all.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from muxjax.models.collectives import AXIS
from muxjax.serving.executor.program import LLMInputs, Programs, run_step
from muxjax.serving.executor.slots import SlotState
from muxjax.serving.sampling import TokenCounts
from muxjax.serving.spec import PoolSpec

WHOLE = PartitionSpec()
"""Every device has all of it, the same."""
POOL = PartitionSpec(AXIS)
"""Each device has a pool of its own, whose blocks belong, under the same ids, to its own heads."""
VOCABULARY = PartitionSpec(None, AXIS)
"""Each device has the columns of its own tokens."""
STATE = SlotState._make((WHOLE, TokenCounts._make((VOCABULARY, VOCABULARY))))
"""Of an LLM's slots."""


def spread(function: Callable[..., Any], mesh: Mesh, in_specs: Any, out_specs: Any) -> Callable[..., Any]:
    """The function on each device; specs are of its arguments and results, or of all that are in one of them."""
    # Unchecked, because kernels would have to say of what they return whether devices agree on it.
    return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)


def spread_step(llms: Sequence[Programs], mesh: Mesh, inputs: Sequence[LLMInputs[Any]]) -> Callable[..., Any]:
    """`run_step` of these LLMs, of a pool and of inputs that lie on the devices as these shapes say."""
    specs = jax.tree.map(lambda shape: shape.sharding.spec, tuple(inputs))
    return spread(partial(run_step, tuple(llms)), mesh, (POOL, specs), (POOL, VOCABULARY))


def pool_shape(spec: PoolSpec, mesh: Mesh) -> jax.ShapeDtypeStruct:
    """The pools of all devices, each as `spec` says, as one array."""
    shape = (mesh.size * spec.num_blocks, 2, spec.block_tokens, spec.lane)
    return jax.ShapeDtypeStruct(shape, jnp.dtype(spec.dtype), sharding=NamedSharding(mesh, POOL))


def spec_of(array: jax.Array) -> PartitionSpec:
    """Which part of an array each device has."""
    return array.sharding.spec if isinstance(array.sharding, NamedSharding) else WHOLE
