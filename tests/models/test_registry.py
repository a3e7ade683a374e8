"""A researcher's own architecture: a class and a decorator, nothing else."""

import json
from pathlib import Path

import jax.numpy as jnp
import pytest
from flax import nnx

from muxjax.models.attention import causal_attention
from muxjax.models.config import DecoderConfig
from muxjax.models.config_fields import ConfigFields
from muxjax.models.decoder import Decoder
from muxjax.models.errors import CheckpointError
from muxjax.models.llama import Llama
from muxjax.models.load import load_model
from muxjax.models.registry import register_architecture
from muxjax.models.weights import TensorSlot
from tests.models.checkpoints import TINY, seeded_tensors, write_checkpoint


class ScaledDecoder(Decoder):
    """Logits divided by a learned temperature."""

    def __init__(self, config: DecoderConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        super().__init__(config, dtype=dtype, rngs=rngs)
        self.temperature = nnx.Param(jnp.ones((), dtype))

    def logits(self, hidden: jnp.ndarray) -> jnp.ndarray:
        return super().logits(hidden) / self.temperature[...]


@register_architecture("ScaledLlamaForCausalLM")
class ScaledLlama(Llama):
    def build(self, config: DecoderConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> Decoder:
        return ScaledDecoder(config, dtype=dtype, rngs=rngs)

    def tensor_slots(self, config: DecoderConfig) -> dict[str, TensorSlot]:
        return {**super().tensor_slots(config), "temperature": TensorSlot("temperature", ())}


@register_architecture("ForgetfulLlamaForCausalLM")
class ForgetfulLlama(Llama):
    """Has no slot for the output projection."""

    def tensor_slots(self, config: DecoderConfig) -> dict[str, TensorSlot]:
        return {name: slot for name, slot in super().tensor_slots(config).items() if name != "lm_head.weight"}


def test_another_architecture_is_read_built_and_filled(tmp_path: Path) -> None:
    tensors = seeded_tensors(TINY)
    tensors["temperature"] = jnp.float32(2.0).__array__()
    config = {**TINY, "architectures": ["ScaledLlamaForCausalLM"]}
    scaled = load_model(write_checkpoint(tmp_path / "scaled", config, tensors), dtype=jnp.float32)
    del tensors["temperature"]
    plain = load_model(write_checkpoint(tmp_path / "plain", TINY, tensors), dtype=jnp.float32)
    assert isinstance(scaled.decoder, ScaledDecoder)
    tokens = jnp.asarray([3, 1, 4, 1, 5])
    scaled_logits, plain_logits = (
        model.decoder.logits(model.decoder(tokens, jnp.arange(5), causal_attention)[0]) for model in (scaled, plain)
    )
    assert jnp.allclose(2 * scaled_logits, plain_logits)


def test_parameters_that_no_tensor_fills_are_reported(tmp_path: Path) -> None:
    tensors = seeded_tensors(TINY)
    del tensors["lm_head.weight"]
    config = {**TINY, "architectures": ["ForgetfulLlamaForCausalLM"]}
    with pytest.raises(CheckpointError, match="do not fill head"):
        load_model(write_checkpoint(tmp_path, config, tensors), dtype=jnp.float32)


def test_reads_its_own_fields() -> None:
    fields = ConfigFields(json.loads('{"outer": {"inner": 3}}'))
    inner = fields.section("outer")
    assert inner is not None
    assert inner.integer("inner") == 3
    assert inner.name("other") == "outer.other"
