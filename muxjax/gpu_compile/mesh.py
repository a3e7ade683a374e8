"""GPUs that are not here, as a mesh to compile for."""

import functools

from jax.experimental import topologies
from jax.sharding import Mesh

from muxjax.gpu_compile.targets import TARGETS
from muxjax.models.spread import make_mesh


@functools.cache
def gpu_mesh(target: str, devices: int = 1) -> Mesh:
    """So many GPUs of a kind, a key of TARGETS, in one machine."""
    config, topology = TARGETS[target].config, f"1x1x{devices}"
    return make_mesh(topologies.get_topology_desc("", platform="cuda", target_config=config, topology=topology).devices)
