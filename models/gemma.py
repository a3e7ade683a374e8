"""Gemma 1 and 2, and the text part of Gemma 3 (Gemma Team 2024, 2025)."""

from typing import Any, ClassVar

from muxjax.models.config import DecoderConfig
from muxjax.models.config_fields import ConfigFields
from muxjax.models.family_fields import (
    read_activation,
    read_layers,
    read_sliding_layers,
    write_activation,
    write_layer_types,
)
from muxjax.models.llama import Llama
from muxjax.models.registry import register_architecture
from muxjax.models.rope import RopeConfig
from muxjax.models.rope_fields import read_full_rope, read_sliding_rope, write_ropes
from muxjax.models.text_part import TextPart


@register_architecture("GemmaForCausalLM")
class Gemma(Llama):
    """Norms that multiply by 1 + scale, scaled embeddings and GeGLU."""

    model_type = "gemma"
    defaults: ClassVar = {"head_dim": 256, "max_position_embeddings": 8192, "tie_word_embeddings": True}

    def read_options(self, fields: ConfigFields) -> dict[str, Any]:
        fields.refuse("use_bidirectional_attention", False)
        name = "hidden_activation" if "hidden_activation" in fields else "hidden_act"
        activation = read_activation(fields, name, "gelu_pytorch_tanh")
        bias = fields.flag("attention_bias", False)
        return {
            # The first checkpoints say gelu, and were trained with its approximation.
            "activation": "gelu_tanh" if activation == "gelu" else activation,
            "norm_adds_one": True,
            "qkv_bias": bias,
            "out_bias": bias,
            "embedding_scale": fields.integer("hidden_size") ** 0.5,
        }

    def write_options(self, config: DecoderConfig) -> dict[str, Any]:
        return {"hidden_act": write_activation(config.activation), "attention_bias": config.qkv_bias}


@register_architecture("Gemma2ForCausalLM")
class Gemma2(Llama):
    """Norms before and after attention and MLP that multiply by 1 + scale, scaled embeddings, soft caps, GeGLU.

    Every other layer has a sliding window.
    """

    model_type = "gemma2"
    defaults: ClassVar = {
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    }
    norms: ClassVar = {
        "attention_norm": "input_layernorm",
        "attention_post_norm": "post_attention_layernorm",
        "mlp_norm": "pre_feedforward_layernorm",
        "mlp_post_norm": "post_feedforward_layernorm",
    }

    def read_options(self, fields: ConfigFields) -> dict[str, Any]:
        fields.refuse("use_bidirectional_attention", False)
        bias = fields.flag("attention_bias", False)
        return {
            "activation": read_activation(fields, "hidden_activation", "gelu_pytorch_tanh"),
            "norm_adds_one": True,
            "post_norm": True,
            "qkv_bias": bias,
            "out_bias": bias,
            "embedding_scale": fields.integer("hidden_size") ** 0.5,
            "attention_scale": fields.number("query_pre_attn_scalar") ** -0.5,
            "attention_soft_cap": fields.optional_number("attn_logit_softcapping"),
            "logit_soft_cap": fields.optional_number("final_logit_softcapping"),
            "sliding_window": fields.optional_integer("sliding_window"),
            "sliding_layers": read_sliding_layers(fields, self.sliding_layers(fields)),
        }

    def sliding_layers(self, fields: ConfigFields) -> tuple[int, ...]:
        """The layers with a window, where layer_types does not say it."""
        return tuple(read_layers(fields)[::2])

    def write_options(self, config: DecoderConfig) -> dict[str, Any]:
        return {
            "hidden_activation": write_activation(config.activation),
            "attention_bias": config.qkv_bias,
            "query_pre_attn_scalar": round(config.sm_scale**-2, 6),
            "attn_logit_softcapping": config.attention_soft_cap,
            "final_logit_softcapping": config.logit_soft_cap,
            "sliding_window": config.sliding_window,
            "layer_types": write_layer_types(config.sliding_layers, config.num_layers),
        }


@register_architecture("Gemma3ForCausalLM")
class Gemma3(Gemma2):
    """Norms of queries and keys in the attention's soft cap's place, and another RoPE for layers with a window."""

    model_type = "gemma3_text"
    defaults: ClassVar = {
        "vocab_size": 262_208,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131_072,
        "tie_word_embeddings": True,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "sliding_window_pattern": 6,
    }
    theta = 1e6
    stretches_context = False

    def read_rope(self, fields: ConfigFields, head_dim: int) -> RopeConfig:
        return read_full_rope(fields, head_dim, default_theta=self.theta)

    def read_options(self, fields: ConfigFields) -> dict[str, Any]:
        theta = fields.number("rope_local_base_freq", 10_000.0)
        return {
            **super().read_options(fields),
            "attention_soft_cap": None,  # transformers reads the field and does not use it
            "qk_norm": "head",
            "sliding_rope": read_sliding_rope(fields, fields.integer("head_dim"), default_theta=theta),
        }

    def sliding_layers(self, fields: ConfigFields) -> tuple[int, ...]:
        pattern = fields.integer("sliding_window_pattern")
        return tuple(layer for layer in read_layers(fields) if (layer + 1) % pattern)

    def write_options(self, config: DecoderConfig) -> dict[str, Any]:
        return {**super().write_options(config), "rope_parameters": write_ropes(config)}


@register_architecture("Gemma3ForConditionalGeneration")
class Gemma3Text(TextPart, Gemma3):
    """The text part of a Gemma 3 that also sees."""

    whole_model_type = "gemma3"
