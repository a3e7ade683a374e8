"""How a decoder's parameters are cut, so that its heads, inner channels and vocabulary are spread over devices.

As in Megatron-LM (Shoeybi et al. 2019, section 3): the matrix that opens attention or MLP is cut by its columns and the
one that closes it by its rows, so that each device computes a term of the block's output, and `sum_over_devices` adds
them up once. Embedding and head are cut by the vocabulary.
"""

from collections.abc import Sequence
from enum import Enum

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Shaped

from muxjax.models.collectives import AXIS
from muxjax.models.config import DecoderConfig
from muxjax.models.errors import ConfigError

DEGREES = (1, 2, 4, 8)
"""Over how many devices models are spread."""


class Cut(Enum):
    """What a parameter is, and so which part of it a device has."""

    WHOLE = "whole"  # all of it: norms, routers, what is added to a sum over devices
    COLUMNS = "columns"  # [..., out]
    ROWS = "rows"  # [..., in, out]
    GROUPS = "groups"  # [..., kv_heads, queries_per_kv + 2, dim], see `models.attention.Attention`
    KEYS = "keys"  # [kv_heads * dim]

    @property
    def axis(self) -> int | None:
        """The axis that is cut, counted from the end, so that a stack of layers is cut like one of them."""
        return {Cut.WHOLE: None, Cut.COLUMNS: -1, Cut.ROWS: -2, Cut.GROUPS: -3, Cut.KEYS: -1}[self]

    def spec(self, shape: Sequence[int]) -> PartitionSpec:
        """Of a stretched parameter, or of its scales, which have size 1 along the axis that products sum over."""
        if self.axis is None or shape[self.axis] == 1:
            return PartitionSpec()
        return PartitionSpec(*[None] * (len(shape) + self.axis), AXIS)

    def stretch(self, array: Shaped[Array, "..."], devices: int, kv_heads: int) -> Shaped[Array, "..."]:
        """The parameter with a size, along its axis, that so many devices can share equally.

        Rows and columns are filled up with zeros, which change no product. Where there are fewer KV heads than devices,
        each is repeated, beside another part of the queries that use it.
        """
        repeats = devices // kv_heads
        match self:
            case Cut.GROUPS if repeats > 1:
                queries, key_value = array[..., :-2, :], array[..., -2:, :]
                parts = queries.reshape(*array.shape[:-3], devices, -1, array.shape[-1])
                return jnp.concatenate([parts, jnp.repeat(key_value, repeats, axis=-3)], axis=-2)
            case Cut.KEYS if repeats > 1:
                heads = array.reshape(*array.shape[:-1], kv_heads, -1)
                return jnp.repeat(heads, repeats, axis=-2).reshape(*array.shape[:-1], -1)
            case Cut.COLUMNS:
                return _fill_up(array, -1, devices)
            case Cut.ROWS:
                return _fill_up(array, -2, devices)
        return array

    def stretched_shape(self, shape: tuple[int, ...], devices: int, kv_heads: int) -> tuple[int, ...]:
        """The shape that `stretch` gives a parameter."""
        array = jax.ShapeDtypeStruct(shape, jnp.float32)
        return jax.eval_shape(lambda array: self.stretch(array, devices, kv_heads), array).shape


def kv_heads_per_device(config: DecoderConfig, devices: int) -> int:
    """How many KV heads each of so many devices has; several have the same one where there are fewer than devices."""
    return max(1, config.num_kv_heads // devices)


def check_degree(config: DecoderConfig, devices: int) -> None:
    """Raises ConfigError if so many devices cannot share the heads equally."""
    heads, kv_heads = config.num_heads, config.num_kv_heads
    if not _can_share(heads, kv_heads, devices):
        possible = ", ".join(str(degree) for degree in DEGREES if _can_share(heads, kv_heads, degree))
        raise ConfigError(
            f"{heads} query heads on {kv_heads} KV heads cannot be spread over {devices} devices equally "
            f"(over how many they can: {possible})"
        )


def _can_share(heads: int, kv_heads: int, devices: int) -> bool:
    return heads % devices == 0 and (kv_heads % devices == 0 or devices % kv_heads == 0)


def _fill_up(array: Shaped[Array, "..."], axis: int, multiple: int) -> Shaped[Array, "..."]:
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, -array.shape[axis] % multiple)
    return jnp.pad(array, widths)
