"""Phi-1 to Phi-2 (Gunasekar et al. 2023), and Phi-3 and Phi-4 (Abdin et al. 2024)."""

from typing import Any, ClassVar

from muxjax.models.config import DecoderConfig
from muxjax.models.config_fields import ConfigFields
from muxjax.models.family_fields import read_activation, write_activation
from muxjax.models.layer_slots import ALL, LayerPlace, Slots, plain_mlp_slots, qkv_parts
from muxjax.models.llama import Llama
from muxjax.models.mistral import Mistral
from muxjax.models.registry import register_architecture
from muxjax.models.rope import RopeConfig
from muxjax.models.rope_fields import read_rope
from muxjax.models.weights import FusedSlot, TensorSlot


@register_architecture("PhiForCausalLM")
class Phi(Llama):
    """Attention and MLP side by side behind one LayerNorm, a part of each head rotated, biases everywhere."""

    model_type = "phi"
    defaults: ClassVar = {"max_position_embeddings": 2048, "layer_norm_eps": 1e-5, "partial_rotary_factor": 0.5}
    norms: ClassVar = {"attention_norm": "input_layernorm"}
    final_norm = "final_layernorm"
    out = "dense"
    norm_eps = "layer_norm_eps"

    def read_rope(self, fields: ConfigFields, head_dim: int) -> RopeConfig:
        return read_rope(fields, head_dim)

    def read_options(self, fields: ConfigFields) -> dict[str, Any]:
        fields.refuse("qk_layernorm", False)
        return {
            "activation": read_activation(fields, "hidden_act", "gelu_new"),
            "gated_mlp": False,
            "norm": "layer",
            "parallel": "one_norm",
            "qkv_bias": True,
            "out_bias": True,
            "mlp_bias": True,
            "head_bias": True,
        }

    def write_options(self, config: DecoderConfig) -> dict[str, Any]:
        return {"hidden_act": write_activation(config.activation)}

    def tensor_slots(self, config: DecoderConfig) -> Slots:
        return super().tensor_slots(config) | {"lm_head.bias": TensorSlot("head_bias", (config.vocab_size,))}

    def mlp_slots(self, config: DecoderConfig, place: LayerPlace) -> Slots:
        return plain_mlp_slots(config, place, "mlp.fc1", "mlp.fc2")


@register_architecture("Phi3ForCausalLM")
class Phi3(Mistral):
    """Projections fused in the checkpoint, LongRoPE, and in some sizes only a part of each head rotated."""

    model_type = "phi3"
    defaults: ClassVar = {
        "max_position_embeddings": 4096,
        "original_max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
    }

    def read_rope(self, fields: ConfigFields, head_dim: int) -> RopeConfig:
        return read_rope(fields, head_dim)

    def attention_slots(self, config: DecoderConfig, place: LayerPlace) -> Slots:
        hidden, parts = config.hidden_size, qkv_parts(config)
        qkv = tuple(
            place.slot("attention.qkv", (size, hidden), (ALL, *index), transpose=True) for size, index in parts.values()
        )
        return {
            "self_attn.qkv_proj.weight": FusedSlot(qkv),
            "self_attn.o_proj.weight": place.slot("attention.out", (hidden, parts["q"][0]), transpose=True),
        }

    def mlp_slots(self, config: DecoderConfig, place: LayerPlace) -> Slots:
        hidden, inner = config.hidden_size, config.intermediate_size
        return {
            "mlp.gate_up_proj.weight": place.slot("mlp.gate_up", (2 * inner, hidden), transpose=True),
            "mlp.down_proj.weight": place.slot("mlp.down", (hidden, inner), transpose=True),
        }

    def write_options(self, config: DecoderConfig) -> dict[str, Any]:
        original = {} if config.length_switch is None else {"original_max_position_embeddings": config.length_switch}
        return super().write_options(config) | original
