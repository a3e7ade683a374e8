"""A researcher's own architecture: a class and a decorator, nothing else."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from muxjax.models.attention import Attend, KeyValues, causal_attention
from muxjax.models.config import DecoderConfig
from muxjax.models.config_fields import ConfigFields
from muxjax.models.decoder import Decoder, DecoderLayer
from muxjax.models.errors import CheckpointError, ConfigError
from muxjax.models.llama import Llama
from muxjax.models.load import check_tensor_parallel, load_model
from muxjax.models.registry import register_architecture
from muxjax.models.rope import Rotate
from muxjax.models.weights import TensorSlot
from tests.models.checkpoints import TINY, seeded_tensors, write_checkpoint


class HalvedLayer(DecoderLayer):
    """Adds half of what a layer adds."""

    def __call__(self, hidden: jax.Array, rotate: Rotate, attend: Attend) -> tuple[jax.Array, KeyValues]:
        after, keys_values = super().__call__(hidden, rotate, attend)
        return (hidden + after) / 2, keys_values


class ScaledDecoder(Decoder):
    """Layers of another kind; logits divided by a learned temperature."""

    layer_class = HalvedLayer

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
    tensors = {**seeded_tensors(TINY), "temperature": np.asarray(2.0, np.float32)}
    config = {**TINY, "architectures": ["ScaledLlamaForCausalLM"]}
    model = load_model(write_checkpoint(tmp_path, config, tensors), dtype=jnp.float32)
    assert isinstance(model.decoder, ScaledDecoder)
    assert isinstance(model.decoder.layers, HalvedLayer)
    hidden, _ = model.decoder(jnp.asarray([3, 1, 4, 1, 5]), jnp.arange(5), causal_attention)
    unscaled = hidden @ tensors["lm_head.weight"].T
    np.testing.assert_allclose(2 * model.decoder.logits(hidden), unscaled, rtol=1e-5, atol=1e-5)


def test_parameters_that_no_tensor_fills_are_reported(tmp_path: Path) -> None:
    tensors = seeded_tensors(TINY)
    del tensors["lm_head.weight"]
    config = {**TINY, "architectures": ["ForgetfulLlamaForCausalLM"]}
    with pytest.raises(CheckpointError, match="do not fill head"):
        load_model(write_checkpoint(tmp_path, config, tensors), dtype=jnp.float32)


def test_one_that_does_not_say_how_devices_share_it_is_for_one_device_only(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(TINY))
    check_tensor_parallel(f"random:{path}", 2)
    path.write_text(json.dumps({**TINY, "architectures": ["ScaledLlamaForCausalLM"]}))
    with pytest.raises(ConfigError, match="ScaledLlamaForCausalLM does not say how devices share temperature"):
        check_tensor_parallel(f"random:{path}", 2)


def test_reads_its_own_fields() -> None:
    fields = ConfigFields(json.loads('{"outer": {"inner": 3}}'))
    inner = fields.section("outer")
    assert inner is not None
    assert inner.integer("inner") == 3
    assert inner.name("other") == "outer.other"
