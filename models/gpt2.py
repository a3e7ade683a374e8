"""GPT-2 (Radford et al. 2019)."""

from typing import Any

from muxjax.models.config import DecoderConfig
from muxjax.models.config_fields import ConfigFields
from muxjax.models.errors import ConfigError
from muxjax.models.family_fields import read_activation, read_layers, refuse_quantization, write_activation
from muxjax.models.layer_slots import ALL, LayerPlace, Slots, qkv_parts
from muxjax.models.registry import Architecture, register_architecture
from muxjax.models.weights import FusedSlot, TensorSlot


@register_architecture("GPT2LMHeadModel")
class GPT2(Architecture):
    """Learned positions, LayerNorm, an MLP without a gate, biases everywhere; matrices are stored as [in, out]."""

    def read_config(self, fields: ConfigFields) -> DecoderConfig:
        refuse_quantization(fields)
        fields.refuse("scale_attn_by_inverse_layer_idx", False)
        fields.refuse("add_cross_attention", False)
        hidden, num_heads = fields.integer("n_embd", 768), fields.integer("n_head", 12)
        if hidden % num_heads:
            raise ConfigError(f"n_embd ({hidden}) must be a multiple of n_head ({num_heads})")
        return DecoderConfig(
            vocab_size=fields.integer("vocab_size", 50_257),
            hidden_size=hidden,
            intermediate_size=fields.integer("n_inner", 4 * hidden),
            num_layers=len(read_layers(fields, "n_layer", 12)),
            num_heads=num_heads,
            num_kv_heads=num_heads,
            head_dim=hidden // num_heads,
            max_context=fields.integer("n_positions", 1024),
            norm_eps=fields.number("layer_norm_epsilon", 1e-5),
            rope=None,
            tie_embeddings=fields.flag("tie_word_embeddings", True),
            activation=read_activation(fields, "activation_function", "gelu_new"),
            gated_mlp=False,
            norm="layer",
            qkv_bias=True,
            out_bias=True,
            mlp_bias=True,
            learned_positions=True,
            attention_scale=None if fields.flag("scale_attn_weights", True) else 1.0,
        )

    def write_config(self, config: DecoderConfig) -> dict[str, Any]:
        return {
            "model_type": "gpt2",
            "vocab_size": config.vocab_size,
            "n_embd": config.hidden_size,
            "n_inner": config.intermediate_size,
            "n_layer": config.num_layers,
            "n_head": config.num_heads,
            "n_positions": config.max_context,
            "layer_norm_epsilon": config.norm_eps,
            "tie_word_embeddings": config.tie_embeddings,
            "activation_function": write_activation(config.activation),
            "scale_attn_weights": config.attention_scale is None,
        }

    def tensor_slots(self, config: DecoderConfig) -> Slots:
        vocab, hidden = config.vocab_size, config.hidden_size
        head = TensorSlot("head", (vocab, hidden), transpose=True)
        slots: Slots = {
            "transformer.wte.weight": head if config.tie_embeddings else TensorSlot("embedding", (vocab, hidden)),
            "transformer.wpe.weight": TensorSlot("positions", (config.max_context, hidden)),
            "transformer.ln_f.weight": TensorSlot("norm.scale", (hidden,)),
            "transformer.ln_f.bias": TensorSlot("norm.bias", (hidden,)),
        }
        if not config.tie_embeddings:
            slots["lm_head.weight"] = head
        for layer in range(config.num_layers):
            of_layer = _layer_slots(config, LayerPlace.of(config, layer))
            slots |= {f"transformer.h.{layer}.{name}": slot for name, slot in of_layer.items()}
        return slots

    def canonical_name(self, tensor: str) -> str:
        # The first checkpoints were saved from the model without its head.
        return tensor if tensor.startswith(("transformer.", "lm_head.")) else f"transformer.{tensor}"

    def ignores(self, tensor: str, config: DecoderConfig) -> bool:
        # Old checkpoints hold the causal mask.
        is_mask = tensor.endswith((".attn.bias", ".attn.masked_bias"))
        return is_mask or (config.tie_embeddings and tensor == "lm_head.weight")


def _layer_slots(config: DecoderConfig, place: LayerPlace) -> Slots:
    hidden, inner = config.hidden_size, config.intermediate_size
    parts = qkv_parts(config).values()
    weights = tuple(place.slot("attention.qkv", (hidden, size), (ALL, *index)) for size, index in parts)
    biases = tuple(place.slot("attention.qkv_bias", (size,), index) for size, index in parts)
    return {
        "ln_1.weight": place.slot("attention_norm.scale", (hidden,)),
        "ln_1.bias": place.slot("attention_norm.bias", (hidden,)),
        "attn.c_attn.weight": FusedSlot(weights, axis=1),
        "attn.c_attn.bias": FusedSlot(biases),
        "attn.c_proj.weight": place.slot("attention.out", (hidden, hidden)),
        "attn.c_proj.bias": place.slot("attention.out_bias", (hidden,)),
        "ln_2.weight": place.slot("mlp_norm.scale", (hidden,)),
        "ln_2.bias": place.slot("mlp_norm.bias", (hidden,)),
        "mlp.c_fc.weight": place.slot("mlp.up", (hidden, inner)),
        "mlp.c_fc.bias": place.slot("mlp.up_bias", (inner,)),
        "mlp.c_proj.weight": place.slot("mlp.down", (inner, hidden)),
        "mlp.c_proj.bias": place.slot("mlp.down_bias", (hidden,)),
    }
