"""The decoder: plain pytrees under plain JAX, attention passed in."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from muxjax.models.attention import KeyValues, causal_attention
from muxjax.models.config import DecoderConfig
from muxjax.models.decoder import Decoder

CONFIG = DecoderConfig(
    vocab_size=97,
    hidden_size=48,
    intermediate_size=80,
    num_layers=3,
    num_heads=6,
    num_kv_heads=2,
    head_dim=20,
    max_context=64,
    tie_embeddings=True,
)
TOKENS = jnp.asarray([5, 17, 96, 0, 3, 3, 41])
POSITIONS = jnp.arange(7)


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return jax.jit(lambda: Decoder(CONFIG, dtype=jnp.float32, rngs=nnx.Rngs(0)))()


@jax.jit
def forward(decoder: Decoder, tokens: jax.Array) -> tuple[jax.Array, KeyValues]:
    return decoder(tokens, jnp.arange(len(tokens)), causal_attention)


@jax.jit
def logits(decoder: Decoder, tokens: jax.Array) -> jax.Array:
    return decoder.logits(forward(decoder, tokens)[0])


def test_shapes(decoder: Decoder) -> None:
    hidden, (keys, values) = forward(decoder, TOKENS)
    assert hidden.shape == (7, 48)
    assert keys.shape == values.shape == (3, 7, 2, 20)
    assert logits(decoder, TOKENS).shape == (7, 97)
    assert logits(decoder, TOKENS).dtype == jnp.float32


def test_runs_under_plain_jit_over_a_flat_tuple_of_leaves(decoder: Decoder) -> None:
    graph, state = nnx.split(decoder)
    leaves, structure = jax.tree.flatten(state)

    @jax.jit
    def run(leaves: tuple[jax.Array, ...], tokens: jax.Array) -> jax.Array:
        return logits(nnx.merge(graph, jax.tree.unflatten(structure, leaves)), tokens)

    np.testing.assert_allclose(run(tuple(leaves), TOKENS), logits(decoder, TOKENS), atol=1e-5)


def test_later_tokens_do_not_change_earlier_ones(decoder: Decoder) -> None:
    np.testing.assert_allclose(forward(decoder, TOKENS[:4])[0], forward(decoder, TOKENS)[0][:4], atol=1e-5)


def unrolled(decoder: Decoder) -> Decoder:
    copy = nnx.clone(decoder)
    copy.unroll()
    return copy


def test_unrolled_layers_compute_the_same(decoder: Decoder) -> None:
    leaves, expected = jax.tree.leaves(unrolled(decoder)), jax.tree.leaves(decoder)
    assert len(leaves) > len(expected)
    assert sum(leaf.size for leaf in leaves) == sum(leaf.size for leaf in expected)
    outputs = (forward(model, TOKENS) for model in (unrolled(decoder), decoder))
    jax.tree.map(lambda got, expected: np.testing.assert_allclose(got, expected, atol=1e-5), *outputs)


@pytest.mark.parametrize("rows", [2, 8])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_no_weights_are_copied_or_widened_on_the_way(tied: bool, rows: int) -> None:
    config = dataclasses.replace(CONFIG, vocab_size=4096, hidden_size=64, tie_embeddings=tied)
    narrow = unrolled(Decoder(config, dtype=jnp.bfloat16, rngs=nnx.Rngs(0)))
    memory = logits.lower(narrow, jnp.zeros(rows, jnp.int32)).compile().memory_analysis()
    assert memory.temp_size_in_bytes < narrow.head.nbytes


@pytest.mark.parametrize("prepare", [lambda decoder: decoder, unrolled], ids=["stacked", "unrolled"])
def test_attend_sees_its_layers_input(decoder: Decoder, prepare: Callable[[Decoder], Decoder]) -> None:
    """A decode step: one token, with the past's keys and values handed to each layer as its input."""
    model = prepare(decoder)
    whole, (keys, values) = forward(decoder, TOKENS)

    def attend(queries: jax.Array, key: jax.Array, value: jax.Array, past: KeyValues, **options: Any) -> jax.Array:
        keys, values = (jnp.concatenate(pair) for pair in zip(past, (key, value), strict=True))
        padded = jnp.zeros((len(keys), *queries.shape[1:])).at[-1].set(queries[0])
        return causal_attention(padded, keys, values, **options)[-1:]

    @jax.jit
    def decode(token: jax.Array, position: jax.Array, past: KeyValues) -> tuple[jax.Array, KeyValues]:
        return model(token, position, attend, past)

    last, (new_keys, _) = decode(TOKENS[-1:], POSITIONS[-1:], (keys[:, :-1], values[:, :-1]))
    np.testing.assert_allclose(last[0], whole[-1], atol=1e-5)
    np.testing.assert_allclose(new_keys[:, 0], keys[:, -1], atol=1e-5)


def test_batches_and_differentiates(decoder: Decoder) -> None:
    graph, params = nnx.split(decoder)

    @jax.jit
    @jax.grad
    def gradient(params: nnx.State, batch: jax.Array) -> jax.Array:
        return jnp.mean(jax.vmap(lambda row: logits(nnx.merge(graph, params), row))(batch) ** 2)

    leaves = jax.tree.leaves(gradient(params, jnp.stack([TOKENS, TOKENS[::-1]])))
    assert all(jnp.all(jnp.isfinite(leaf)) and jnp.any(leaf != 0) for leaf in leaves)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_bfloat16_rows_agree_with_float32(decoder: Decoder, rows: int) -> None:
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), decoder)
    got = logits(narrow, TOKENS[:rows])
    assert got.shape == (rows, 97)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, logits(decoder, TOKENS[:rows]), atol=0.05)


def test_counts_its_parameters(decoder: Decoder) -> None:
    assert sum(leaf.size for leaf in jax.tree.leaves(decoder)) == CONFIG.num_parameters


def test_starts_from_independent_weights_of_the_given_spread(decoder: Decoder) -> None:
    gate, up = np.asarray(decoder.layers.mlp.gate_up[0]).transpose(1, 0, 2).reshape(2, -1)
    other = np.asarray(decoder.layers.mlp.gate_up[1])[:, 0].ravel()
    for weights in (gate, up, other):
        assert abs(weights.mean()) < 1e-3
        assert abs(weights.std() - 0.02) < 5e-4
    correlations = np.corrcoef([gate, up, other, gate[::-1]]) - np.eye(4)
    assert np.abs(correlations).max() < 0.06
