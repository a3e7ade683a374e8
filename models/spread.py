"""Parameters on the devices of a mesh: each has its part of one as soon as that is read."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from muxjax.models.collectives import AXIS, own_part
from muxjax.models.quantization import Int8Weights, largest_weights, quantize_to
from muxjax.models.sharding import Cut


def make_mesh(devices: Sequence[jax.Device]) -> Mesh:
    """These devices, in this order, for models to be spread over."""
    return Mesh(np.array(devices), (AXIS,))


@dataclass(frozen=True)
class Spread:
    """Where the parameters of a model with so many KV heads go.

    Devices never wait for each other here, so that parameters may be placed by several threads and while programs run.
    """

    mesh: Mesh
    kv_heads: int

    def read_to(self, cut: Cut, shape: tuple[int, ...]) -> NamedSharding:
        """Where `place` wants a parameter: cut already, or whole on every device if it is to be stretched."""
        spec = PartitionSpec() if self._is_stretched(cut, shape) else cut.spec(shape)
        return NamedSharding(self.mesh, spec)

    def place(self, array: Float[Array, "..."], cut: Cut, in_axis: int | None) -> Float[Array, "..."] | Int8Weights:
        """A parameter cut as programs take it; in eight bits if products sum over an `in_axis` of it."""
        if self._is_stretched(cut, array.shape):
            array = _stretch(array, spread=self, cut=cut)
        if in_axis is None:
            return array
        # Compared on the host, for the devices not to wait for each other: they are few.
        largest = np.asarray(_largest_of_parts(array, spread=self, cut=cut, in_axis=in_axis))
        return _quantize(array, largest.max(axis=in_axis, keepdims=True), spread=self, cut=cut)

    def _is_stretched(self, cut: Cut, shape: tuple[int, ...]) -> bool:
        return cut.stretched_shape(shape, self.mesh.size, self.kv_heads) != shape


@functools.partial(jax.jit, static_argnames=("spread", "cut"))
def _stretch(array: Float[Array, "..."], *, spread: Spread, cut: Cut) -> Float[Array, "..."]:
    devices, kv_heads = spread.mesh.size, spread.kv_heads

    def take_own(whole: Float[Array, "..."]) -> Float[Array, "..."]:
        return whole if cut.axis is None else own_part(cut.stretch(whole, devices, kv_heads), cut.axis)

    spec = cut.spec(cut.stretched_shape(array.shape, devices, kv_heads))
    return _on_each_device(take_own, spread, PartitionSpec(), spec)(array)


@functools.partial(jax.jit, static_argnames=("spread", "cut", "in_axis"))
def _largest_of_parts(array: Float[Array, "..."], *, spread: Spread, cut: Cut, in_axis: int) -> Float[Array, "..."]:
    """The largest weights of each output channel; of each part of it, where devices have parts of channels."""
    largest = functools.partial(largest_weights, in_axis=in_axis)
    return _on_each_device(largest, spread, cut.spec(array.shape), cut.spec(array.shape))(array)


@functools.partial(jax.jit, static_argnames=("spread", "cut"))
def _quantize(array: Float[Array, "..."], largest: Float[Array, "..."], *, spread: Spread, cut: Cut) -> Int8Weights:
    values, scales = cut.spec(array.shape), cut.spec(largest.shape)

    def quantize_own(own: Float[Array, "..."], largest: Float[Array, "..."]) -> tuple[Array, Array]:
        quantized = quantize_to(own, largest)
        return quantized.values, quantized.scales

    parts = _on_each_device(quantize_own, spread, (values, scales), (values, scales))(array, largest)
    return Int8Weights(parts[0], parts[1], array.dtype)


def _on_each_device(function: Callable[..., Any], spread: Spread, in_specs: Any, out_specs: Any) -> Callable[..., Any]:
    return jax.shard_map(function, mesh=spread.mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)
