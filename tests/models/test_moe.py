"""Experts: both ways to run them are the definition, and both can be trained."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from muxjax.models.config import DecoderConfig, ExpertsConfig
from muxjax.models.decoder import Decoder
from muxjax.models.mlp import GatedMLP
from muxjax.models.moe import Experts

EXPERTS = ExpertsConfig(num_experts=5, per_token=2, intermediate_size=7)
CONFIG = DecoderConfig(11, 6, 7, 1, 1, 1, 6, 8, experts=EXPERTS)


def make_experts(experts: ExpertsConfig = EXPERTS) -> Experts:
    block = Experts(CONFIG, experts, dtype=jnp.float32, rngs=nnx.Rngs(0))
    return jax.tree.map(lambda leaf: leaf * 40, block)  # spread the router's scores


def definition(block: Experts, hidden: np.ndarray) -> np.ndarray:
    """One token and one expert at a time, in float64."""
    router, gate_up, down = (np.asarray(leaf[...], np.float64) for leaf in (block.router, block.gate_up, block.down))
    outputs = np.zeros(hidden.shape)
    for token, row in enumerate(hidden.astype(np.float64)):
        scores = np.exp(row @ router)
        chosen = np.argsort(-scores)[: block.experts.per_token]
        total = scores[chosen].sum() if block.experts.normalize else scores.sum()
        for expert in chosen:
            gate, up = row @ gate_up[expert, :, 0], row @ gate_up[expert, :, 1]
            outputs[token] += scores[expert] / total * ((gate / (1 + np.exp(-gate)) * up) @ down[expert])
    return outputs


@pytest.mark.parametrize("way", [Experts.grouped, Experts.one_by_one])
@pytest.mark.parametrize("tokens", [1, 9])
@pytest.mark.parametrize("experts", [EXPERTS, dataclasses.replace(EXPERTS, normalize=False, per_token=3)])
def test_both_ways_are_the_definition(way: Callable[..., jax.Array], tokens: int, experts: ExpertsConfig) -> None:
    block = make_experts(experts)
    hidden = np.random.RandomState(tokens).standard_normal((tokens, 6)).astype(np.float32)
    outputs = jax.jit(lambda block, hidden: way(block, hidden, *block._route(hidden)))(block, jnp.asarray(hidden))
    np.testing.assert_allclose(outputs, definition(block, hidden), rtol=1e-4, atol=1e-5)


def test_both_ways_have_the_same_gradient() -> None:
    hidden = jnp.asarray(np.random.RandomState(0).standard_normal((9, 6)), jnp.float32)

    def loss(block: Experts, way: Callable[..., jax.Array]) -> jax.Array:
        return jnp.square(way(block, hidden, *block._route(hidden))).sum()

    gradients = [
        jax.jit(jax.grad(loss), static_argnums=1)(make_experts(), way) for way in (Experts.grouped, Experts.one_by_one)
    ]
    for one, other in zip(*map(jax.tree.leaves, gradients), strict=True):
        assert jnp.any(one != 0)
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def test_bfloat16_stays_bfloat16() -> None:
    block = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), make_experts())
    assert jax.jit(lambda block, hidden: block(hidden))(block, jnp.ones((1, 6), jnp.bfloat16)).dtype == jnp.bfloat16


def test_a_sparse_model_may_have_dense_layers_only() -> None:
    decoder = Decoder(dataclasses.replace(CONFIG, dense_layers=(0,)), dtype=jnp.float32, rngs=nnx.Rngs(0))
    assert isinstance(decoder.layers.mlp, GatedMLP)
