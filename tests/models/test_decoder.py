"""The decoder: plain pytrees under plain JAX, attention passed in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from muxjax.models.attention import causal_attention
from muxjax.models.config import DecoderConfig
from muxjax.models.decoder import Decoder

CONFIG = DecoderConfig(
    vocab_size=97, hidden_size=48, intermediate_size=80, num_layers=3, num_heads=6, num_kv_heads=2, head_dim=20,
    max_context=64, tie_embeddings=True,
)  # fmt: skip
TOKENS = jnp.asarray([5, 17, 96, 0, 3, 3, 41])
POSITIONS = jnp.arange(7)


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return Decoder(CONFIG, dtype=jnp.float32, rngs=nnx.Rngs(0))


def test_shapes(decoder: Decoder) -> None:
    hidden, (keys, values) = decoder(TOKENS, POSITIONS, causal_attention)
    assert hidden.shape == (7, 48)
    assert keys.shape == values.shape == (3, 7, 2, 20)
    logits = decoder.logits(hidden[-2:])
    assert logits.shape == (2, 97)
    assert logits.dtype == jnp.float32


def test_runs_under_plain_jit_over_a_flat_tuple_of_leaves(decoder: Decoder) -> None:
    graph, state = nnx.split(decoder)
    leaves, structure = jax.tree.flatten(state)

    @jax.jit
    def forward(leaves: tuple[jax.Array, ...], tokens: jax.Array) -> jax.Array:
        model = nnx.merge(graph, jax.tree.unflatten(structure, leaves))
        return model.logits(model(tokens, POSITIONS, causal_attention)[0])

    expected = decoder.logits(decoder(TOKENS, POSITIONS, causal_attention)[0])
    np.testing.assert_allclose(forward(tuple(leaves), TOKENS), expected, atol=1e-5)


def test_later_tokens_do_not_change_earlier_ones(decoder: Decoder) -> None:
    whole, _ = decoder(TOKENS, POSITIONS, causal_attention)
    part, _ = decoder(TOKENS[:4], POSITIONS[:4], causal_attention)
    np.testing.assert_allclose(part, whole[:4], atol=1e-5)


def test_attend_sees_its_layers_input(decoder: Decoder) -> None:
    """A decode step: one token, with the past's keys and values handed to each layer as its input."""
    whole, (keys, values) = decoder(TOKENS, POSITIONS, causal_attention)

    def attend(queries: jax.Array, key: jax.Array, value: jax.Array, past: tuple[jax.Array, jax.Array]) -> jax.Array:
        keys, values = (jnp.concatenate(pair) for pair in zip(past, (key, value), strict=True))
        padded = jnp.zeros((len(keys), *queries.shape[1:])).at[-1].set(queries[0])
        return causal_attention(padded, keys, values)[-1:]

    past = (keys[:, :-1], values[:, :-1])
    last, (new_keys, _) = decoder(TOKENS[-1:], POSITIONS[-1:], attend, past)
    np.testing.assert_allclose(last[0], whole[-1], atol=1e-5)
    np.testing.assert_allclose(new_keys[:, 0], keys[:, -1], atol=1e-5)


def test_batches_and_differentiates(decoder: Decoder) -> None:
    graph, params = nnx.split(decoder)

    def loss(params: nnx.State, batch: jax.Array) -> jax.Array:
        model = nnx.merge(graph, params)
        hidden, _ = jax.vmap(lambda row: model(row, POSITIONS, causal_attention))(batch)
        return jnp.mean(jax.vmap(model.logits)(hidden) ** 2)

    gradient = jax.grad(loss)(params, jnp.stack([TOKENS, TOKENS[::-1]]))
    assert all(jnp.all(jnp.isfinite(leaf)) and jnp.any(leaf != 0) for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_bfloat16_rows_agree_with_float32(decoder: Decoder, rows: int) -> None:
    narrow = Decoder(CONFIG, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    nnx.update(narrow, jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), nnx.state(decoder)))
    expected = decoder.logits(decoder(TOKENS[:rows], POSITIONS[:rows], causal_attention)[0])
    got = narrow.logits(narrow(TOKENS[:rows], POSITIONS[:rows], causal_attention)[0])
    assert got.shape == (rows, 97)
    np.testing.assert_allclose(got, expected, atol=0.05)


def test_counts_its_parameters(decoder: Decoder) -> None:
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(decoder))) == CONFIG.num_parameters
