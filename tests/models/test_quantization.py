"""Weights in eight bits: how far they are off, and that every way of using them agrees."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from muxjax.models.attention import causal_attention
from muxjax.models.linear import project, project_grouped
from muxjax.models.load import load_model, save_model, weight_bytes
from muxjax.models.quantization import Int8Weights, dequantize, quantize
from tests.models.checkpoints import TINY, seeded_tensors, write_checkpoint

GOLDEN = Path(__file__).parents[1] / "oracle/golden"


def drawn(*shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(sum(shape)), shape) * jnp.arange(1, shape[-1] + 1)


def test_every_weight_is_off_by_half_a_step_of_its_channel_at_most() -> None:
    weights = drawn(64, 3, 5)
    quantized = quantize(weights, 0)
    assert quantized.values.dtype == jnp.int8
    assert quantized.scales.shape == (1, 3, 5)
    assert jnp.all(jnp.abs(dequantize(quantized) - weights) <= quantized.scales / 2 * (1 + 1e-5))


def test_a_channel_of_zeros_stays_zero() -> None:
    assert not jnp.any(dequantize(quantize(jnp.zeros((4, 2)), 0)))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_product_is_that_with_the_weights_which_they_stand_for(dtype: jnp.dtype) -> None:
    weights = quantize(drawn(32, 2, 7).astype(dtype), 0)
    inputs = drawn(3, 32).astype(dtype)
    got = project(inputs, weights)
    assert got.dtype == dtype
    expected = jnp.tensordot(inputs.astype(jnp.float32), weights.values * weights.scales, axes=1)
    np.testing.assert_allclose(got.astype(jnp.float32), expected, rtol=1e-2 if dtype == jnp.bfloat16 else 1e-4, atol=1)
    assert project(inputs, weights, accumulate=jnp.float32).dtype == jnp.float32


def test_each_group_of_rows_is_scaled_by_its_own_expert() -> None:
    weights = quantize(drawn(3, 16, 5), 1)
    inputs, sizes = drawn(6, 16), jnp.asarray([2, 0, 4])
    got = project_grouped(inputs, weights, sizes)
    np.testing.assert_allclose(got, project_grouped(inputs, dequantize(weights), sizes), rtol=1e-4, atol=1e-3)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "hf", TINY, seeded_tensors(TINY))


@pytest.mark.parametrize("is_orbax", [False, True], ids=["safetensors", "orbax"])
def test_a_model_is_quantized_while_it_is_loaded(checkpoint: Path, tmp_path: Path, is_orbax: bool) -> None:
    if is_orbax:
        save_model(tmp_path / "orbax", load_model(checkpoint, dtype=jnp.float32))
        checkpoint = tmp_path / "orbax"
    decoder = load_model(checkpoint, dtype=jnp.float32, quantization="int8").decoder
    plain = load_model(checkpoint, dtype=jnp.float32, unroll=True).decoder
    down = decoder.layers[1].mlp.down[...]
    assert isinstance(down, Int8Weights)
    np.testing.assert_array_equal(down.values, quantize(plain.layers[1].mlp.down[...], 0).values)
    assert decoder.norm.scale[...].dtype == jnp.float32
    taken = sum(leaf.nbytes for leaf in jax.tree.leaves(nnx.state(decoder)))
    assert taken == weight_bytes(checkpoint, dtype=jnp.float32, quantization="int8")


FAMILIES = (
    "gpt2",
    "gemma3_with_two_ropes",
    "mixtral",
    "qwen3_moe_with_dense_layers",
    "olmo2",
    "phi",
    "gpt_neox",
    "opt",
    "granite",
)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_answers_nearly_as_with_all_its_bits(name: str, tmp_path: Path) -> None:
    """The quantized model is the model of the weights that it stands for: in every layer, expert and lookup."""
    config = json.loads((GOLDEN / f"{name}.json").read_text())["config"]
    checkpoint = write_checkpoint(tmp_path, config, seeded_tensors(config))
    quantized = load_model(checkpoint, dtype=jnp.float32, quantization="int8").decoder
    plain = load_model(checkpoint, dtype=jnp.float32, unroll=True).decoder
    state = nnx.state(quantized)
    widened = jax.tree.map(dequantize, state, is_leaf=lambda leaf: isinstance(leaf, Int8Weights))
    nnx.update(plain, widened)
    tokens = jnp.arange(11)

    @jax.jit
    def logits(decoder):
        return decoder.logits(decoder(tokens, tokens, causal_attention)[0])

    np.testing.assert_allclose(logits(quantized), logits(plain), atol=2e-3)
