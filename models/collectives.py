"""What the devices of a tensor-parallel program tell each other; on one device, nothing.

A program runs on each device of a mesh by `jax.shard_map` over AXIS. Anywhere else, and on a mesh of one device, all of
these return what they are given.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Int32, Shaped

AXIS = "tp"


def num_devices() -> int:
    """Over how many devices the program that is being traced is spread."""
    mesh = jax.sharding.get_abstract_mesh()
    return mesh.shape[AXIS] if AXIS in mesh.manual_axes else 1


def sum_over_devices(partial: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
    """The sum of all devices' terms, on each of them."""
    return partial if num_devices() == 1 else jax.lax.psum(partial, AXIS)


def gather_columns(own: Shaped[Array, "rows own"]) -> Shaped[Array, "rows all"]:
    """All devices' columns, in the devices' order."""
    return own if num_devices() == 1 else jax.lax.all_gather(own, AXIS, axis=1, tiled=True)


def own_part(whole: Shaped[Array, "..."], axis: int) -> Shaped[Array, "..."]:
    """This device's part of what all have, such as of what gather_columns gave."""
    if num_devices() == 1:
        return whole
    size = whole.shape[axis] // num_devices()
    return jax.lax.dynamic_slice_in_dim(whole, jax.lax.axis_index(AXIS) * size, size, axis)


def own_ids(size: int) -> Int32[Array, "{size}"]:
    """The ids of this device's rows or columns, of which each device has `size`."""
    ids = jnp.arange(size, dtype=jnp.int32)
    return ids if num_devices() == 1 else ids + jax.lax.axis_index(AXIS) * size


def own_places(ids: Int[Array, "*shape"], size: int) -> Int[Array, "*shape"]:
    """Where among this device's `size` rows or columns these ids are; `size`, out of bounds, for those of others."""
    if num_devices() == 1:
        return ids
    places = ids - jax.lax.axis_index(AXIS) * size
    return jnp.where((places >= 0) & (places < size), places, size)
