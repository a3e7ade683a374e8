"""The Llama family (Touvron et al. 2023; Llama 3.1 and 3.2 with scaled RoPE) in Hugging Face's terms."""

from typing import Any

from muxjax.models.config import DecoderConfig, Llama3Scaling, RopeConfig
from muxjax.models.config_fields import ConfigFields
from muxjax.models.errors import ConfigError
from muxjax.models.registry import Architecture, register_architecture
from muxjax.models.weights import TensorSlot


@register_architecture("LlamaForCausalLM")
class Llama(Architecture):
    """RMSNorm, rotary embeddings, grouped-query attention and SwiGLU, without biases."""

    def read_config(self, fields: ConfigFields) -> DecoderConfig:
        fields.only("hidden_act", ("silu",), default="silu")
        fields.only("attention_bias", (False,), default=False)
        fields.only("mlp_bias", (False,), default=False)
        fields.only("partial_rotary_factor", (1,), default=1)
        if "quantization_config" in fields:
            raise ConfigError("quantization_config asks for quantized weights, which are not supported")
        hidden_size, num_heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
        num_kv_heads = fields.integer("num_key_value_heads", num_heads)
        if num_heads % num_kv_heads:
            raise ConfigError(
                f"num_attention_heads ({num_heads}) must be a multiple of num_key_value_heads ({num_kv_heads})"
            )
        if "head_dim" not in fields and hidden_size % num_heads:
            raise ConfigError(
                f"hidden_size ({hidden_size}) must be a multiple of num_attention_heads ({num_heads}), "
                "or head_dim must be given"
            )
        return DecoderConfig(
            vocab_size=fields.integer("vocab_size"),
            hidden_size=hidden_size,
            intermediate_size=fields.integer("intermediate_size"),
            num_layers=fields.integer("num_hidden_layers"),
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=fields.integer("head_dim", hidden_size // num_heads),
            max_context=fields.integer("max_position_embeddings", 2048),
            norm_eps=fields.number("rms_norm_eps", 1e-6),
            rope=_read_rope(fields),
            tie_embeddings=fields.flag("tie_word_embeddings", False),
        )

    def write_config(self, config: DecoderConfig) -> dict[str, Any]:
        rope: dict[str, Any] = {"rope_theta": config.rope.theta, "rope_type": "default"}
        if (scaling := config.rope.scaling) is not None:
            rope |= {
                "rope_type": "llama3",
                "factor": scaling.factor,
                "low_freq_factor": scaling.low_freq_factor,
                "high_freq_factor": scaling.high_freq_factor,
                "original_max_position_embeddings": scaling.original_context,
            }
        return {
            "model_type": "llama",
            "vocab_size": config.vocab_size,
            "hidden_size": config.hidden_size,
            "intermediate_size": config.intermediate_size,
            "num_hidden_layers": config.num_layers,
            "num_attention_heads": config.num_heads,
            "num_key_value_heads": config.num_kv_heads,
            "head_dim": config.head_dim,
            "max_position_embeddings": config.max_context,
            "rms_norm_eps": config.norm_eps,
            "rope_parameters": rope,
            "tie_word_embeddings": config.tie_embeddings,
            "hidden_act": "silu",
        }

    def tensor_slots(self, config: DecoderConfig) -> dict[str, TensorSlot]:
        vocab, hidden = config.vocab_size, config.hidden_size
        head = TensorSlot("head", (vocab, hidden), transpose=True)
        if config.tie_embeddings:
            slots = {"model.embed_tokens.weight": head}
        else:
            slots = {"model.embed_tokens.weight": TensorSlot("embedding", (vocab, hidden)), "lm_head.weight": head}
        slots["model.norm.weight"] = TensorSlot("norm.scale", (hidden,))
        for layer in range(config.num_layers):
            slots |= {f"model.layers.{layer}.{name}.weight": slot for name, slot in _layer_slots(config, layer).items()}
        return slots

    def ignores(self, tensor: str, config: DecoderConfig) -> bool:
        # Older converters stored RoPE's frequencies; tied models may carry their embedding a second time.
        return tensor.endswith(".rotary_emb.inv_freq") or (config.tie_embeddings and tensor == "lm_head.weight")


def _layer_slots(config: DecoderConfig, layer: int) -> dict[str, TensorSlot]:
    hidden, inner = config.hidden_size, config.intermediate_size
    queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    every = slice(None)
    qkv, gate_up = "layers.attention.qkv", "layers.mlp.gate_up"
    return {
        "input_layernorm": TensorSlot("layers.attention_norm.scale", (hidden,), (layer,)),
        "self_attn.q_proj": TensorSlot(qkv, (queries, hidden), (layer, every, every, slice(-2)), transpose=True),
        "self_attn.k_proj": TensorSlot(qkv, (keys, hidden), (layer, every, every, -2), transpose=True),
        "self_attn.v_proj": TensorSlot(qkv, (keys, hidden), (layer, every, every, -1), transpose=True),
        "self_attn.o_proj": TensorSlot("layers.attention.out", (hidden, queries), (layer,), transpose=True),
        "post_attention_layernorm": TensorSlot("layers.mlp_norm.scale", (hidden,), (layer,)),
        "mlp.gate_proj": TensorSlot(gate_up, (inner, hidden), (layer, every, 0), transpose=True),
        "mlp.up_proj": TensorSlot(gate_up, (inner, hidden), (layer, every, 1), transpose=True),
        "mlp.down_proj": TensorSlot("layers.mlp.down", (hidden, inner), (layer,), transpose=True),
    }


def _read_rope(fields: ConfigFields) -> RopeConfig:
    """Both spellings: rope_theta beside rope_scaling, and everything in rope_parameters (transformers 5)."""
    rope = fields.section("rope_parameters") or fields.section("rope_scaling")
    if rope is None:
        return RopeConfig(theta=fields.number("rope_theta", 10_000.0))
    theta = rope.number("rope_theta", fields.number("rope_theta", 10_000.0))
    rope.only("partial_rotary_factor", (1,), default=1)
    kind = "rope_type" if "rope_type" in rope else "type"
    if rope.only(kind, ("default", "llama3"), default="default") == "default":
        return RopeConfig(theta=theta)
    scaling = Llama3Scaling(
        factor=rope.number("factor"),
        low_freq_factor=rope.number("low_freq_factor"),
        high_freq_factor=rope.number("high_freq_factor"),
        original_context=rope.integer("original_max_position_embeddings"),
    )
    return RopeConfig(theta=theta, scaling=scaling)
