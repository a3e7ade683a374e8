"""Mistral (Jiang et al. 2023) and Mixtral (Jiang et al. 2024)."""

from typing import Any, ClassVar

from muxjax.models.config import DecoderConfig, ExpertsConfig
from muxjax.models.config_fields import ConfigFields
from muxjax.models.errors import ConfigError
from muxjax.models.family_fields import read_activation, read_layers, write_activation
from muxjax.models.layer_slots import LayerPlace, Slots, expert_slots
from muxjax.models.llama import Llama
from muxjax.models.registry import register_architecture
from muxjax.models.text_part import TextPart


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


@register_architecture("Mistral3ForConditionalGeneration")
class Mistral3Text(TextPart, Mistral):
    """The text part of a Mistral Small that also sees."""

    whole_model_type = "mistral3"


@register_architecture("MixtralForCausalLM")
class Mixtral(Mistral):
    """Mistral with experts in the MLP's place."""

    model_type = "mixtral"
    defaults: ClassVar = {
        "num_key_value_heads": 8,
        "max_position_embeddings": 131_072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1e6,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
    }

    def read_options(self, fields: ConfigFields) -> dict[str, Any]:
        experts = ExpertsConfig(
            num_experts=fields.integer("num_local_experts"),
            per_token=fields.integer("num_experts_per_tok"),
            intermediate_size=fields.integer("intermediate_size"),
        )
        return {**super().read_options(fields), "experts": experts}

    def write_options(self, config: DecoderConfig) -> dict[str, Any]:
        experts = config.experts
        if experts is None or config.dense_layers:
            raise ConfigError("every layer of a Mixtral has experts")
        return {
            **super().write_options(config),
            "num_local_experts": experts.num_experts,
            "num_experts_per_tok": experts.per_token,
        }

    def mlp_slots(self, config: DecoderConfig, place: LayerPlace) -> Slots:
        return expert_slots(config, place, "block_sparse_moe", {"gate": "w1", "up": "w3", "down": "w2"})


def read_window_everywhere(fields: ConfigFields) -> dict[str, Any]:
    """The options of DecoderConfig for a `sliding_window` that holds in all layers, or in none if it is null."""
    window = fields.optional_integer("sliding_window")
    layers = () if window is None else tuple(read_layers(fields))
    return {"sliding_window": window, "sliding_layers": layers}
