"""Qwen 2, 2.5 and 3, dense and sparse (Qwen Team 2024, 2025)."""

from typing import Any, ClassVar

from muxjax.models.config import DecoderConfig, ExpertsConfig
from muxjax.models.config_fields import ConfigFields
from muxjax.models.errors import ConfigError
from muxjax.models.family_fields import (
    read_activation,
    read_layers,
    read_sliding_layers,
    write_activation,
    write_layer_types,
)
from muxjax.models.layer_slots import LayerPlace, Slots, expert_slots
from muxjax.models.llama import Llama
from muxjax.models.mistral import read_window_everywhere
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
            **self.read_windows(fields),
        }

    def write_options(self, config: DecoderConfig) -> dict[str, Any]:
        return {
            "hidden_act": write_activation(config.activation),
            "use_sliding_window": config.sliding_window is not None,
            "sliding_window": config.sliding_window,
            "layer_types": write_layer_types(config.sliding_layers, config.num_layers),
        }

    def read_windows(self, fields: ConfigFields) -> dict[str, Any]:
        """The options for sliding windows: without layer_types, the layers from max_window_layers on have one."""
        is_used = fields.flag("use_sliding_window", False)
        window = fields.optional_integer("sliding_window") if is_used else None
        first = fields.whole("max_window_layers")
        later = () if window is None else tuple(read_layers(fields)[first:])
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


@register_architecture("Qwen3MoeForCausalLM")
class Qwen3Moe(Qwen3):
    """Qwen 3 with experts in the MLP's place, in every layer or in some."""

    model_type = "qwen3_moe"
    defaults: ClassVar = {
        "num_key_value_heads": 4,
        "max_position_embeddings": 32_768,
        "sliding_window": 4096,
        "decoder_sparse_step": 1,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 768,
    }

    def read_windows(self, fields: ConfigFields) -> dict[str, Any]:
        return read_window_everywhere(fields) if fields.flag("use_sliding_window", False) else {}

    def read_options(self, fields: ConfigFields) -> dict[str, Any]:
        experts = ExpertsConfig(
            num_experts=fields.integer("num_experts", fields.integer("num_local_experts", 128)),  # transformers 4, 5
            per_token=fields.integer("num_experts_per_tok"),
            intermediate_size=fields.integer("moe_intermediate_size"),
            normalize=fields.flag("norm_topk_prob", False),
        )
        only_mlp, step = fields.indices("mlp_only_layers"), fields.integer("decoder_sparse_step")
        dense = tuple(layer for layer in read_layers(fields) if layer in only_mlp or (layer + 1) % step)
        return {**super().read_options(fields), "experts": experts, "dense_layers": dense}

    def write_options(self, config: DecoderConfig) -> dict[str, Any]:
        if config.experts is None:
            raise ConfigError("a sparse Qwen has experts")
        fields = super().write_options(config)
        del fields["layer_types"]
        return {
            **fields,
            "num_experts": config.experts.num_experts,
            "num_experts_per_tok": config.experts.per_token,
            "moe_intermediate_size": config.experts.intermediate_size,
            "norm_topk_prob": config.experts.normalize,
            "mlp_only_layers": list(config.dense_layers),
        }

    def mlp_slots(self, config: DecoderConfig, place: LayerPlace) -> Slots:
        if place.experts is None:
            return super().mlp_slots(config, place)
        return expert_slots(config, place, "mlp", {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"})
