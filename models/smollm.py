"""SmolLM3 (Bakouch et al. 2025)."""

from typing import Any, ClassVar

from muxjax.models.config import DecoderConfig
from muxjax.models.config_fields import ConfigFields
from muxjax.models.errors import ConfigError
from muxjax.models.family_fields import read_layers, read_sliding_layers, write_layer_types
from muxjax.models.llama import Llama
from muxjax.models.registry import register_architecture


@register_architecture("SmolLM3ForCausalLM")
class SmolLM3(Llama):
    """Llama without a rotary embedding in every fourth layer (Yang et al. 2025)."""

    model_type = "smollm3"
    defaults: ClassVar = {
        "num_key_value_heads": 4,
        "max_position_embeddings": 32_768,
        "tie_word_embeddings": True,
        "no_rope_layer_interval": 4,
    }
    theta = 2e6

    def read_options(self, fields: ConfigFields) -> dict[str, Any]:
        unrotated = self.unrotated_layers(fields)
        window = fields.optional_integer("sliding_window") if fields.flag("use_sliding_window", False) else None
        sliding = read_sliding_layers(fields, () if window is None else unrotated)
        return {
            **super().read_options(fields),
            "unrotated_layers": unrotated,
            "sliding_window": window,
            "sliding_layers": sliding,
        }

    def unrotated_layers(self, fields: ConfigFields) -> tuple[int, ...]:
        """The layers that no_rope_layers has a 0 for, or else every one after no_rope_layer_interval - 1 others."""
        layers = read_layers(fields)
        if "no_rope_layers" not in fields:
            interval = fields.integer("no_rope_layer_interval")
            return tuple(layer for layer in layers if not (layer + 1) % interval)
        is_rotated = fields.indices("no_rope_layers")
        if len(is_rotated) < len(layers):
            raise ConfigError(f"no_rope_layers must say of each of {len(layers)} layers, not of {len(is_rotated)}")
        return tuple(layer for layer in layers if not is_rotated[layer])

    def write_options(self, config: DecoderConfig) -> dict[str, Any]:
        return {
            **super().write_options(config),
            "no_rope_layers": [int(layer not in config.unrotated_layers) for layer in range(config.num_layers)],
            "use_sliding_window": config.sliding_window is not None,
            "sliding_window": config.sliding_window,
            "layer_types": write_layer_types(config.sliding_layers, config.num_layers),
        }
