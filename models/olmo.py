"""OLMo 2 (OLMo Team 2025)."""

from typing import Any, ClassVar

from muxjax.models.config import DecoderConfig
from muxjax.models.config_fields import ConfigFields
from muxjax.models.family_fields import read_activation, write_activation
from muxjax.models.llama import Llama
from muxjax.models.registry import register_architecture


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
