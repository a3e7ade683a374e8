"""Mistral (Jiang et al. 2023)."""

from typing import Any, ClassVar

from muxjax.models.config import DecoderConfig
from muxjax.models.config_fields import ConfigFields
from muxjax.models.family_fields import read_activation, write_activation
from muxjax.models.llama import Llama
from muxjax.models.registry import register_architecture


@register_architecture("MistralForCausalLM")
class Mistral(Llama):
    """Llama with a sliding window in every layer, which later versions switch off with a null."""

    model_type = "mistral"
    defaults: ClassVar = {"num_key_value_heads": 8, "sliding_window": 4096, "max_position_embeddings": 131_072}

    def read_options(self, fields: ConfigFields) -> dict[str, Any]:
        return {
            "activation": read_activation(fields, "hidden_act", "silu"),
            **read_window_everywhere(fields),
        }

    def write_options(self, config: DecoderConfig) -> dict[str, Any]:
        return {"hidden_act": write_activation(config.activation), "sliding_window": config.sliding_window}


def read_window_everywhere(fields: ConfigFields) -> dict[str, Any]:
    """The options of DecoderConfig for a `sliding_window` that holds in all layers, or in none if it is null."""
    window = fields.optional_integer("sliding_window")
    layers = () if window is None else tuple(range(fields.integer("num_hidden_layers")))
    return {"sliding_window": window, "sliding_layers": layers}
