"""Qwen 2, 2.5 and 3 (Qwen Team 2024, 2025)."""

from typing import Any, ClassVar

from muxjax.models.config import DecoderConfig
from muxjax.models.config_fields import ConfigFields
from muxjax.models.errors import ConfigError
from muxjax.models.family_fields import (
    read_activation,
    read_sliding_layers,
    write_activation,
    write_layer_types,
)
from muxjax.models.llama import Llama
from muxjax.models.registry import register_architecture


@register_architecture("Qwen2ForCausalLM")
class Qwen2(Llama):
    """Llama with biases on queries, keys and values."""

    model_type = "qwen2"
    defaults: ClassVar = {
        "num_key_value_heads": 32,
        "max_position_embeddings": 32_768,
        "sliding_window": 4096,
        "max_window_layers": 28,
    }

    def read_options(self, fields: ConfigFields) -> dict[str, Any]:
        return {
            "activation": read_activation(fields, "hidden_act", "silu"),
            "qkv_bias": True,
            **self._read_windows(fields),
        }

    def write_options(self, config: DecoderConfig) -> dict[str, Any]:
        return {
            "hidden_act": write_activation(config.activation),
            "use_sliding_window": config.sliding_window is not None,
            "sliding_window": config.sliding_window,
            "layer_types": write_layer_types(config.sliding_layers, config.num_layers),
        }

    def _read_windows(self, fields: ConfigFields) -> dict[str, Any]:
        """Without layer_types, the layers from max_window_layers on have the window."""
        is_used = fields.flag("use_sliding_window", False)
        window = fields.optional_integer("sliding_window") if is_used else None
        first = fields.whole("max_window_layers")
        later = () if window is None else tuple(range(first, fields.integer("num_hidden_layers")))
        layers = read_sliding_layers(fields, later)
        if layers and window is None:
            raise ConfigError("layer_types names layers with a sliding window, but use_sliding_window is not set")
        return {"sliding_window": window, "sliding_layers": layers}


@register_architecture("Qwen3ForCausalLM")
class Qwen3(Qwen2):
    """RMSNorm of each head of queries and keys in the biases' place."""

    model_type = "qwen3"
    defaults: ClassVar = {**Qwen2.defaults, "head_dim": 128}

    def read_options(self, fields: ConfigFields) -> dict[str, Any]:
        bias = fields.flag("attention_bias", False)
        return {**super().read_options(fields), "qkv_bias": bias, "out_bias": bias, "qk_norm": "head"}

    def write_options(self, config: DecoderConfig) -> dict[str, Any]:
        return {**super().write_options(config), "attention_bias": config.qkv_bias}
