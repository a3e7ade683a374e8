"""How wide the GPU is that a program is for."""

import jax

INTERPRETED = 2


def multiprocessors() -> int:
    """Those of the GPU that the program is for, which need not be there."""
    target = jax.sharding.get_abstract_mesh().abstract_device
    if target is None:
        return getattr(jax.devices()[0], "core_count", INTERPRETED)
    return target.num_cores or INTERPRETED
