"""The dense feed-forward block."""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from muxjax.models.collectives import sum_over_devices
from muxjax.models.config import Activation, DecoderConfig
from muxjax.models.linear import add_bias, init_bias, init_weights, project
from muxjax.models.sharding import Cut

ACTIVATIONS: Mapping[Activation, Callable[[Array], Array]] = {
    "silu": jax.nn.silu,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
}


class GatedMLP(nnx.Module):
    """(act(x gate) * (x up)) down (Shazeer 2020), gate and up in one product."""

    def __init__(self, config: DecoderConfig, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.activation = config.activation
        hidden, inner = config.hidden_size, config.intermediate_size
        self.gate_up = init_weights(rngs, (hidden, 2, inner), dtype, cut=Cut.COLUMNS)
        self.down = init_weights(rngs, (inner, hidden), dtype, cut=Cut.ROWS)
        self.gate_up_bias = init_bias((2, inner), dtype, cut=Cut.COLUMNS) if config.mlp_bias else None
        self.down_bias = init_bias((hidden,), dtype, cut=Cut.WHOLE) if config.mlp_bias else None

    def __call__(self, hidden: Float[Array, "tokens hidden"]) -> Float[Array, "tokens hidden"]:
        gate_up = add_bias(project(hidden, self.gate_up[...]), self.gate_up_bias)
        gated = gate(self.activation, gate_up[:, 0], gate_up[:, 1])
        return add_bias(sum_over_devices(project(gated, self.down[...])), self.down_bias)


class MLP(nnx.Module):
    """act(x up) down."""

    def __init__(self, config: DecoderConfig, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.activation = config.activation
        hidden, inner = config.hidden_size, config.intermediate_size
        self.up = init_weights(rngs, (hidden, inner), dtype, cut=Cut.COLUMNS)
        self.down = init_weights(rngs, (inner, hidden), dtype, cut=Cut.ROWS)
        self.up_bias = init_bias((inner,), dtype, cut=Cut.COLUMNS) if config.mlp_bias else None
        self.down_bias = init_bias((hidden,), dtype, cut=Cut.WHOLE) if config.mlp_bias else None

    def __call__(self, hidden: Float[Array, "tokens hidden"]) -> Float[Array, "tokens hidden"]:
        up = add_bias(project(hidden, self.up[...]), self.up_bias)
        active = ACTIVATIONS[self.activation](up.astype(jnp.float32)).astype(up.dtype)
        return add_bias(sum_over_devices(project(active, self.down[...])), self.down_bias)


def gate(activation: Activation, gates: Float[Array, "*rows inner"], up: Float[Array, "*rows inner"]) -> Array:
    """act(gates) * up, in the dtype of both."""
    # In float32: bfloat16 would be rounded, and widened again, after each operation of the activation.
    return (ACTIVATIONS[activation](gates.astype(jnp.float32)) * up.astype(jnp.float32)).astype(up.dtype)
