"""OLMo 2 and 3 (OLMo Team 2025)."""

from typing import Any, ClassVar

from muxjax.models.config import DecoderConfig
from muxjax.models.config_fields import ConfigFields
from muxjax.models.family_fields import (
    read_activation,
    read_heads,
    read_layers,
    read_sliding_layers,
    write_activation,
    write_layer_types,
)
from muxjax.models.llama import Llama
from muxjax.models.registry import register_architecture
from muxjax.models.rope import RopeConfig
from muxjax.models.rope_fields import read_full_rope, read_sliding_rope, write_ropes


@register_architecture("Olmo2ForCausalLM")
class Olmo2(Llama):
    """Llama that normalises what attention and MLP add, not what they read, and queries and keys over all heads."""

    model_type = "olmo2"
    defaults: ClassVar = {"max_position_embeddings": 2048, "rms_norm_eps": 1e-5}
    norms: ClassVar = {
        "attention_post_norm": "post_attention_layernorm",
        "mlp_post_norm": "post_feedforward_layernorm",
    }

    def read_options(self, fields: ConfigFields) -> dict[str, Any]:
        bias = fields.flag("attention_bias", False)
        return {
            "activation": read_activation(fields, "hidden_act", "silu"),
            "qkv_bias": bias,
            "out_bias": bias,
            "pre_norm": False,
            "post_norm": True,
            "qk_norm": "full",
        }

    def write_options(self, config: DecoderConfig) -> dict[str, Any]:
        return {"hidden_act": write_activation(config.activation), "attention_bias": config.qkv_bias}


@register_architecture("Olmo3ForCausalLM")
class Olmo3(Olmo2):
    """A sliding window in three of four layers, whose RoPE is not scaled."""

    model_type = "olmo3"
    defaults: ClassVar = {**Olmo2.defaults, "sliding_window": 4096}
    theta = 500_000.0

    def read_rope(self, fields: ConfigFields, head_dim: int) -> RopeConfig:
        return read_full_rope(fields, head_dim, default_theta=self.theta)

    def read_options(self, fields: ConfigFields) -> dict[str, Any]:
        by_default = tuple(layer for layer in read_layers(fields) if (layer + 1) % 4)
        theta = fields.number("rope_theta", self.theta)
        return {
            **super().read_options(fields),
            "sliding_window": fields.integer("sliding_window"),
            "sliding_layers": read_sliding_layers(fields, by_default),
            "sliding_rope": read_sliding_rope(fields, read_heads(fields).head_dim, default_theta=theta),
        }

    def write_options(self, config: DecoderConfig) -> dict[str, Any]:
        return {
            **super().write_options(config),
            "sliding_window": config.sliding_window,
            "layer_types": write_layer_types(config.sliding_layers, config.num_layers),
            "rope_parameters": write_ropes(config),
        }
