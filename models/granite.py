"""Granite 3 (Granite Team 2024)."""

from typing import Any

from muxjax.models.config import DecoderConfig
from muxjax.models.config_fields import ConfigFields
from muxjax.models.llama import Llama
from muxjax.models.registry import register_architecture


@register_architecture("GraniteForCausalLM")
class Granite(Llama):
    """Llama with four multipliers (Yang et al. 2022): of embeddings, scores, what layers add, and logits."""

    model_type = "granite"

    def read_options(self, fields: ConfigFields) -> dict[str, Any]:
        return {
            **super().read_options(fields),
            "embedding_scale": fields.number("embedding_multiplier", 1.0),
            "attention_scale": fields.number("attention_multiplier", 1.0),
            "residual_scale": fields.number("residual_multiplier", 1.0),
            "logit_divisor": fields.number("logits_scaling", 1.0),
        }

    def write_options(self, config: DecoderConfig) -> dict[str, Any]:
        return {
            **super().write_options(config),
            "embedding_multiplier": config.embedding_scale,
            "attention_multiplier": config.sm_scale,
            "residual_multiplier": config.residual_scale,
            "logits_scaling": config.logit_divisor,
        }
