"""OPT (Zhang et al. 2022)."""

from typing import Any, ClassVar

from muxjax.models.config import DecoderConfig
from muxjax.models.config_fields import ConfigFields
from muxjax.models.family_fields import read_activation, read_heads, refuse_quantization, write_activation
from muxjax.models.layer_slots import LayerPlace, Slots, plain_mlp_slots
from muxjax.models.llama import Llama
from muxjax.models.registry import register_architecture
from muxjax.models.weights import TensorSlot

POSITION_OFFSET = 2  # of fairseq, which counts positions from behind its padding token


@register_architecture("OPTForCausalLM")
class OPT(Llama):
    """Learned positions, LayerNorm, biases everywhere, and ReLU."""

    model_type = "opt"
    norms: ClassVar = {"attention_norm": "self_attn_layer_norm", "mlp_norm": "final_layer_norm"}
    prefix = "model.decoder."
    final_norm = "final_layer_norm"
    out = "out_proj"

    def read_config(self, fields: ConfigFields) -> DecoderConfig:
        refuse_quantization(fields)
        fields.refuse("do_layer_norm_before", True)
        fields.refuse("_remove_final_layer_norm", False)
        fields.refuse("layer_norm_elementwise_affine", True)
        fields.refuse("word_embed_proj_dim", fields.integer("hidden_size"))
        heads = read_heads(fields)
        bias = fields.flag("enable_bias", True)
        return DecoderConfig(
            vocab_size=fields.integer("vocab_size"),
            hidden_size=fields.integer("hidden_size"),
            intermediate_size=fields.integer("ffn_dim"),
            num_layers=fields.integer("num_hidden_layers"),
            num_heads=heads.num_heads,
            num_kv_heads=heads.num_heads,
            head_dim=heads.head_dim,
            max_context=fields.integer("max_position_embeddings", 2048),
            rope=None,
            tie_embeddings=fields.flag("tie_word_embeddings", True),
            activation=read_activation(fields, "activation_function", "relu"),
            gated_mlp=False,
            norm="layer",
            qkv_bias=bias,
            out_bias=bias,
            mlp_bias=bias,
            learned_positions=True,
            position_offset=POSITION_OFFSET,
        )

    def write_config(self, config: DecoderConfig) -> dict[str, Any]:
        return {
            "model_type": self.model_type,
            "vocab_size": config.vocab_size,
            "hidden_size": config.hidden_size,
            "word_embed_proj_dim": config.hidden_size,
            "ffn_dim": config.intermediate_size,
            "num_hidden_layers": config.num_layers,
            "num_attention_heads": config.num_heads,
            "max_position_embeddings": config.max_context,
            "tie_word_embeddings": config.tie_embeddings,
            "activation_function": write_activation(config.activation),
            "enable_bias": config.mlp_bias,
        }

    def tensor_slots(self, config: DecoderConfig) -> Slots:
        rows = (config.max_context + config.position_offset, config.hidden_size)
        return super().tensor_slots(config) | {f"{self.prefix}embed_positions.weight": TensorSlot("positions", rows)}

    def mlp_slots(self, config: DecoderConfig, place: LayerPlace) -> Slots:
        return plain_mlp_slots(config, place, "fc1", "fc2")

    def canonical_name(self, tensor: str) -> str:
        # The first checkpoints were saved from the model without its head.
        return f"model.{tensor}" if tensor.startswith("decoder.") else tensor
