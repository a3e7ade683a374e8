"""The sparse feed-forward block: a router and the experts that it chooses among (Shazeer et al. 2017)."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from muxjax.models.config import DecoderConfig, ExpertsConfig
from muxjax.models.linear import init_weights, project
from muxjax.models.mlp import gate


class Experts(nnx.Module):
    """Gated blocks of which each token uses a few; their outputs are weighted by the router's probabilities."""

    def __init__(self, config: DecoderConfig, experts: ExpertsConfig, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.activation = config.activation
        self.per_token = experts.per_token
        self.normalize = experts.normalize
        num, inner = experts.num_experts, experts.intermediate_size
        self.router = init_weights(rngs, (config.hidden_size, num), dtype)
        self.gate_up = init_weights(rngs, (num, config.hidden_size, 2, inner), dtype)
        self.down = init_weights(rngs, (num, inner, config.hidden_size), dtype)

    def __call__(self, hidden: Float[Array, "tokens hidden"]) -> Float[Array, "tokens hidden"]:
        weights, chosen = self._route(hidden)
        # The rows of one expert lie together, as ragged_dot wants them; row i belongs to token rows[i] // per_token.
        rows = jnp.argsort(chosen.ravel())
        group_sizes = jnp.bincount(chosen.ravel(), length=self.router.shape[1])
        num, width, _, inner = self.gate_up.shape
        gate_up = self.gate_up[...].reshape(num, width, 2 * inner)
        inputs = jax.lax.ragged_dot(hidden[rows // self.per_token], gate_up, group_sizes)
        gated = gate(self.activation, inputs[:, :inner], inputs[:, inner:])
        outputs = jax.lax.ragged_dot(gated, self.down[...], group_sizes)
        by_token = jnp.zeros_like(outputs).at[rows].set(outputs).reshape(*chosen.shape, width)
        return jnp.einsum("tk,tkd->td", weights, by_token.astype(jnp.float32)).astype(hidden.dtype)

    def _route(
        self, hidden: Float[Array, "tokens hidden"]
    ) -> tuple[Float[Array, "tokens per_token"], Int[Array, "tokens per_token"]]:
        """Each token's experts, and the weights of their outputs."""
        scores = project(hidden, self.router[...], accumulate=jnp.float32)
        weights, chosen = jax.lax.top_k(jax.nn.softmax(scores, axis=-1), self.per_token)
        if self.normalize:
            weights = weights / weights.sum(axis=-1, keepdims=True)
        return weights, chosen
