"""StarCoder2 (Lozhkov et al. 2024)."""

from typing import Any, ClassVar

from muxjax.models.config import DecoderConfig
from muxjax.models.config_fields import ConfigFields
from muxjax.models.family_fields import read_activation, write_activation
from muxjax.models.layer_slots import LayerPlace, Slots, plain_mlp_slots
from muxjax.models.llama import Llama
from muxjax.models.mistral import read_window_everywhere
from muxjax.models.registry import register_architecture


@register_architecture("Starcoder2ForCausalLM")
class Starcoder2(Llama):
    """Rotary embeddings with LayerNorm, biases and an MLP without a gate."""

    model_type = "starcoder2"
    defaults: ClassVar = {
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "norm_epsilon": 1e-5,
        "tie_word_embeddings": True,
    }
    norm_eps = "norm_epsilon"

    def read_options(self, fields: ConfigFields) -> dict[str, Any]:
        bias = fields.flag("use_bias", True)
        return {
            "activation": read_activation(fields, "hidden_act", "gelu_pytorch_tanh"),
            "gated_mlp": False,
            "norm": "layer",
            "qkv_bias": bias,
            "out_bias": bias,
            "mlp_bias": bias,
            **read_window_everywhere(fields),
        }

    def write_options(self, config: DecoderConfig) -> dict[str, Any]:
        return {
            "hidden_act": write_activation(config.activation),
            "use_bias": config.mlp_bias,
            "sliding_window": config.sliding_window,
        }

    def mlp_slots(self, config: DecoderConfig, place: LayerPlace) -> Slots:
        return plain_mlp_slots(config, place, "mlp.c_fc", "mlp.c_proj")
