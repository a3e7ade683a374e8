"""GPT-NeoX (Black et al. 2022), and Pythia (Biderman et al. 2023)."""

from typing import Any, ClassVar

from muxjax.models.config import DecoderConfig
from muxjax.models.config_fields import ConfigFields
from muxjax.models.family_fields import read_activation, write_activation
from muxjax.models.layer_slots import LayerPlace, Slots, plain_mlp_slots
from muxjax.models.llama import Llama
from muxjax.models.registry import register_architecture
from muxjax.models.rope import RopeConfig
from muxjax.models.rope_fields import read_rope


@register_architecture("GPTNeoXForCausalLM")
class GPTNeoX(Llama):
    """Attention and MLP side by side, each behind a LayerNorm, a part of each head rotated, biases everywhere."""

    model_type = "gpt_neox"
    defaults: ClassVar = {"max_position_embeddings": 2048, "layer_norm_eps": 1e-5}
    prefix = "gpt_neox."
    final_norm = "final_layer_norm"
    embedding = "embed_in"
    head = "embed_out.weight"
    norm_eps = "layer_norm_eps"

    def read_rope(self, fields: ConfigFields, head_dim: int) -> RopeConfig:
        rotated = fields.number("rotary_pct", 0.25)
        theta = fields.number("rotary_emb_base", 10_000.0)
        return read_rope(fields.with_defaults(partial_rotary_factor=rotated), head_dim, default_theta=theta)

    def read_options(self, fields: ConfigFields) -> dict[str, Any]:
        fields.refuse("num_key_value_heads", fields.integer("num_attention_heads"))
        bias = fields.flag("attention_bias", True)
        return {
            "activation": read_activation(fields, "hidden_act", "gelu"),
            "gated_mlp": False,
            "norm": "layer",
            "parallel": "two_norms" if fields.flag("use_parallel_residual", True) else None,
            "qkv_bias": bias,
            "out_bias": bias,
            "mlp_bias": True,
        }

    def write_options(self, config: DecoderConfig) -> dict[str, Any]:
        return {
            "hidden_act": write_activation(config.activation),
            "use_parallel_residual": config.parallel is not None,
            "attention_bias": config.qkv_bias,
        }

    def attention_slots(self, config: DecoderConfig, place: LayerPlace) -> Slots:
        # Each head's query, key and value follow each other, as in the parameters.
        hidden = config.hidden_size
        slots: Slots = {
            "attention.query_key_value.weight": place.slot("attention.qkv", (3 * hidden, hidden), transpose=True),
            "attention.dense.weight": place.slot("attention.out", (hidden, hidden), transpose=True),
        }
        if config.qkv_bias:
            slots["attention.query_key_value.bias"] = place.slot("attention.qkv_bias", (3 * hidden,))
            slots["attention.dense.bias"] = place.slot("attention.out_bias", (hidden,))
        return slots

    def mlp_slots(self, config: DecoderConfig, place: LayerPlace) -> Slots:
        return plain_mlp_slots(config, place, "mlp.dense_h_to_4h", "mlp.dense_4h_to_h")

    def canonical_name(self, tensor: str) -> str:
        return self.head if tensor == "lm_head.weight" else tensor  # as transformers 5 has it

    def ignores(self, tensor: str, config: DecoderConfig) -> bool:
        # Old checkpoints hold the causal mask.
        is_mask = tensor.endswith((".attention.bias", ".attention.masked_bias"))
        return is_mask or super().ignores(tensor, config)
