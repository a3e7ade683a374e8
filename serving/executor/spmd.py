"""Programs on all devices of a unit at once, and which part of what they are given each device has.

With one device all of it. With several (tensor parallelism), a program sees its own device's part, as if that were all.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from muxjax.models.collectives import AXIS
from muxjax.serving.executor.slots import SlotState
from muxjax.serving.sampling import TokenCounts

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


def spec_of(array: jax.Array) -> PartitionSpec:
    """Which part of an array each device has."""
    return array.sharding.spec if isinstance(array.sharding, NamedSharding) else WHOLE
