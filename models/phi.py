"""Phi-3 and Phi-4 mini (Abdin et al. 2024)."""

from typing import Any, ClassVar

from muxjax.models.config import DecoderConfig
from muxjax.models.config_fields import ConfigFields
from muxjax.models.layer_slots import ALL, LayerPlace, Slots, qkv_parts
from muxjax.models.mistral import Mistral
from muxjax.models.registry import register_architecture
from muxjax.models.rope import RopeConfig
from muxjax.models.rope_fields import read_rope
from muxjax.models.weights import FusedSlot


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
