"""The gated feed-forward block."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from muxjax.models.config import DecoderConfig
from muxjax.models.linear import init_weights, project


class SwiGLU(nnx.Module):
    """(silu(x gate) * (x up)) down (Shazeer 2020), gate and up in one product."""

    def __init__(self, config: DecoderConfig, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.gate_up = init_weights(rngs, (config.hidden_size, 2, config.intermediate_size), dtype)
        self.down = init_weights(rngs, (config.intermediate_size, config.hidden_size), dtype)

    def __call__(self, hidden: Float[Array, "tokens hidden"]) -> Float[Array, "tokens hidden"]:
        gate_up = project(hidden, self.gate_up[...])
        wide = gate_up.astype(jnp.float32)  # bfloat16 would be rounded, and widened again, after each operation of silu
        gated = jax.nn.silu(wide[:, 0]) * wide[:, 1]
        return project(gated.astype(hidden.dtype), self.down[...])
