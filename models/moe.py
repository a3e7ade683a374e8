"""The sparse feed-forward block: a router and the experts that it chooses among (Shazeer et al. 2017)."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from muxjax.models.collectives import sum_over_devices
from muxjax.models.config import DecoderConfig, ExpertsConfig
from muxjax.models.linear import init_weights, project, project_grouped, project_one
from muxjax.models.mlp import gate
from muxjax.models.sharding import Cut

Weights = Float[Array, "tokens per_token"]
Chosen = Int[Array, "tokens per_token"]


class Experts(nnx.Module):
    """Gated blocks of which each token uses a few; their outputs are weighted by the router's probabilities.

    Spread over devices, each has a part of every expert, not some experts: so they have equally much to do.
    """

    def __init__(self, config: DecoderConfig, experts: ExpertsConfig, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.activation = config.activation
        self.experts = experts
        num, inner = experts.num_experts, experts.intermediate_size
        self.router = init_weights(rngs, (config.hidden_size, num), dtype, in_axis=None, cut=Cut.WHOLE)
        self.gate_up = init_weights(rngs, (num, config.hidden_size, 2, inner), dtype, in_axis=1, cut=Cut.COLUMNS)
        self.down = init_weights(rngs, (num, inner, config.hidden_size), dtype, in_axis=1, cut=Cut.ROWS)

    def __call__(self, hidden: Float[Array, "tokens hidden"]) -> Float[Array, "tokens hidden"]:
        weights, chosen = self._route(hidden)
        # XLA's CPU backend runs ragged_dot over all experts for all rows: 4 to 30 times slower than one by one.
        total = jax.lax.platform_dependent(hidden, weights, chosen, cpu=self.one_by_one, default=self.grouped)
        return sum_over_devices(total.astype(hidden.dtype))

    def grouped(
        self, hidden: Float[Array, "tokens hidden"], weights: Weights, chosen: Chosen
    ) -> Float[Array, "tokens hidden"]:
        """The weighted sum of the chosen experts' outputs in float32, each expert with the rows that chose it."""
        num, per_token = self.experts.num_experts, self.experts.per_token
        order = jnp.argsort(chosen.ravel())  # row i of what follows belongs to token order[i] // per_token
        group_sizes = (chosen.ravel() == jnp.arange(num)[:, None]).sum(axis=1)
        inputs = hidden[order // per_token]
        gate_up = project_grouped(inputs, self.gate_up[...].reshape(num, hidden.shape[1], -1), group_sizes)
        gates, up = jnp.split(gate_up, 2, axis=1)
        outputs = project_grouped(gate(self.activation, gates, up), self.down[...], group_sizes)
        row_of = jnp.zeros_like(order).at[order].set(jnp.arange(order.size), unique_indices=True)
        by_token = outputs[row_of].reshape(*chosen.shape, -1)
        return (weights[..., None] * by_token.astype(jnp.float32)).sum(axis=1)

    def one_by_one(
        self, hidden: Float[Array, "tokens hidden"], weights: Weights, chosen: Chosen
    ) -> Float[Array, "tokens hidden"]:
        """The same, with all rows through each expert that any row chose: it reads no other expert's weights."""

        def add(expert: Int[Array, ""], total: Float[Array, "tokens hidden"]) -> Float[Array, "tokens hidden"]:
            is_chosen = chosen == expert

            def with_expert() -> Float[Array, "tokens hidden"]:
                gate_up = project_one(hidden, self.gate_up[...], expert)
                gated = gate(self.activation, gate_up[:, 0], gate_up[:, 1])
                outputs = project_one(gated, self.down[...], expert)
                weight = jnp.where(is_chosen, weights, 0).sum(axis=1, keepdims=True)
                return total + weight * outputs.astype(jnp.float32)

            return jax.lax.cond(is_chosen.any(), with_expert, lambda: total)

        return jax.lax.fori_loop(0, self.experts.num_experts, add, jnp.zeros(hidden.shape, jnp.float32))

    def _route(self, hidden: Float[Array, "tokens hidden"]) -> tuple[Weights, Chosen]:
        """Each token's experts, and the weights of their outputs."""
        scores = project(hidden, self.router[...], accumulate=jnp.float32)
        weights, chosen = jax.lax.top_k(jax.nn.softmax(scores, axis=-1), self.experts.per_token)
        if self.experts.normalize:
            weights = weights / weights.sum(axis=-1, keepdims=True)
        return weights, chosen
