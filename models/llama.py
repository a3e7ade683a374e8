"""The Llama family (Touvron et al. 2023; Llama 3.x with scaled RoPE) in Hugging Face's terms.

Most other families are this one with other options: their classes say what differs.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from muxjax.models.config import DecoderConfig
from muxjax.models.config_fields import ConfigFields
from muxjax.models.errors import ConfigError
from muxjax.models.family_fields import (
    read_activation,
    read_heads,
    read_layers,
    refuse_quantization,
    write_activation,
)
from muxjax.models.layer_slots import ALL, LayerPlace, Slots, norm_slots, qkv_parts
from muxjax.models.registry import Architecture, register_architecture
from muxjax.models.rope import RopeConfig
from muxjax.models.rope_fields import original_context, read_rope, stretched_context, write_rope
from muxjax.models.weights import TensorSlot


@register_architecture("LlamaForCausalLM", "LLaMAForCausalLM")
class Llama(Architecture):
    """RMSNorm, rotary embeddings, grouped-query attention and SwiGLU.

    Attributes:
        model_type: config.json's name of the family.
        defaults: what Hugging Face takes for fields that config.json leaves out.
        norms: which of a layer's norms there are, and their names in a checkpoint.
        prefix: of the names of a checkpoint's tensors.
        embedding: the name of the embedding.
        final_norm: the name of the norm after all layers.
        out: the name of attention's output projection.
        head: the name of the output projection.
        norm_eps: config.json's name of what norms add.
        theta: RoPE's base where config.json leaves it out.
        stretches_context: whether max_position_embeddings is what linear and dynamic RoPE scaling start from.
    """

    model_type: ClassVar[str] = "llama"
    defaults: ClassVar[Mapping[str, Any]] = {"max_position_embeddings": 2048}
    norms: ClassVar[Mapping[str, str]] = {
        "attention_norm": "input_layernorm",
        "mlp_norm": "post_attention_layernorm",
    }
    prefix: ClassVar[str] = "model."
    embedding: ClassVar[str] = "embed_tokens"
    final_norm: ClassVar[str] = "norm"
    out: ClassVar[str] = "o_proj"
    head: ClassVar[str] = "lm_head.weight"
    norm_eps: ClassVar[str] = "rms_norm_eps"
    theta: ClassVar[float] = 10_000.0
    stretches_context: ClassVar[bool] = True

    def read_config(self, fields: ConfigFields) -> DecoderConfig:
        fields = fields.with_defaults(**self.defaults)
        refuse_quantization(fields)
        heads = read_heads(fields)
        rope = self.read_rope(fields, heads.head_dim)
        return DecoderConfig(
            vocab_size=fields.integer("vocab_size"),
            hidden_size=fields.integer("hidden_size"),
            intermediate_size=fields.integer("intermediate_size"),
            num_layers=len(read_layers(fields)),
            num_heads=heads.num_heads,
            num_kv_heads=heads.num_kv_heads,
            head_dim=heads.head_dim,
            max_context=stretched_context(fields, rope if self.stretches_context else None),
            norm_eps=fields.number(self.norm_eps, 1e-6),
            rope=rope,
            tie_embeddings=fields.flag("tie_word_embeddings", False),
            **self.read_options(fields),
        )

    def read_rope(self, fields: ConfigFields, head_dim: int) -> RopeConfig:
        """The rotary embedding of all layers but those with a sliding window of their own."""
        for place in (fields, fields.section("rope_parameters"), fields.section("rope_scaling")):
            if place is not None:
                place.refuse("partial_rotary_factor", 1)
        return read_rope(fields, head_dim, default_theta=self.theta)

    def read_options(self, fields: ConfigFields) -> dict[str, Any]:
        """The options of DecoderConfig in which the family differs from Llama's first version."""
        attention_bias, mlp_bias = fields.flag("attention_bias", False), fields.flag("mlp_bias", False)
        return {
            "activation": read_activation(fields, "hidden_act", "silu"),
            "qkv_bias": attention_bias,
            "out_bias": attention_bias,
            "mlp_bias": mlp_bias,
        }

    def write_config(self, config: DecoderConfig) -> dict[str, Any]:
        if config.rope is None:
            raise ConfigError(f"{type(self).__name__} has rotary embeddings, this configuration has none")
        return {
            "model_type": self.model_type,
            "vocab_size": config.vocab_size,
            "hidden_size": config.hidden_size,
            "intermediate_size": config.intermediate_size,
            "num_hidden_layers": config.num_layers,
            "num_attention_heads": config.num_heads,
            "num_key_value_heads": config.num_kv_heads,
            "head_dim": config.head_dim,
            "max_position_embeddings": original_context(
                config.max_context, config.rope if self.stretches_context else None
            ),
            self.norm_eps: config.norm_eps,
            "rope_parameters": write_rope(config.rope, config.head_dim),
            "tie_word_embeddings": config.tie_embeddings,
            **self.write_options(config),
        }

    def write_options(self, config: DecoderConfig) -> dict[str, Any]:
        """The fields that read_options turns back into the configuration's options."""
        return {
            "hidden_act": write_activation(config.activation),
            "attention_bias": config.qkv_bias,
            "mlp_bias": config.mlp_bias,
        }

    def tensor_slots(self, config: DecoderConfig) -> Slots:
        vocab, hidden = config.vocab_size, config.hidden_size
        head = TensorSlot("head", (vocab, hidden), transpose=True)
        slots = norm_slots(config, LayerPlace.outside(), "norm", f"{self.prefix}{self.final_norm}")
        embedding = f"{self.prefix}{self.embedding}.weight"
        slots[embedding] = head if config.tie_embeddings else TensorSlot("embedding", (vocab, hidden))
        if not config.tie_embeddings:
            slots[self.head] = head
        for layer in range(config.num_layers):
            of_layer = self.layer_slots(config, LayerPlace.of(config, layer))
            slots |= {f"{self.prefix}layers.{layer}.{name}": slot for name, slot in of_layer.items()}
        return slots

    def layer_slots(self, config: DecoderConfig, place: LayerPlace) -> Slots:
        """The tensors of one layer, by their names in it."""
        norms: Slots = {}
        for norm, name in self.norms.items():
            norms |= norm_slots(config, place, norm, name)
        return norms | self.attention_slots(config, place) | self.mlp_slots(config, place)

    def attention_slots(self, config: DecoderConfig, place: LayerPlace) -> Slots:
        """The tensors of a layer's attention."""
        hidden, parts = config.hidden_size, qkv_parts(config)
        slots: Slots = {
            f"self_attn.{name}_proj.weight": place.slot("attention.qkv", (size, hidden), (ALL, *index), transpose=True)
            for name, (size, index) in parts.items()
        }
        queries, keys = parts["q"][0], parts["k"][0]
        slots[f"self_attn.{self.out}.weight"] = place.slot("attention.out", (hidden, queries), transpose=True)
        if config.qkv_bias:
            slots |= {
                f"self_attn.{name}_proj.bias": place.slot("attention.qkv_bias", (size,), index)
                for name, (size, index) in parts.items()
            }
        if config.out_bias:
            slots[f"self_attn.{self.out}.bias"] = place.slot("attention.out_bias", (hidden,))
        if config.qk_norm is not None:
            widths = (queries, keys) if config.qk_norm == "full" else (config.head_dim, config.head_dim)
            slots["self_attn.q_norm.weight"] = place.slot("attention.qk_norm.queries.scale", (widths[0],))
            slots["self_attn.k_norm.weight"] = place.slot("attention.qk_norm.keys.scale", (widths[1],))
        return slots

    def mlp_slots(self, config: DecoderConfig, place: LayerPlace) -> Slots:
        """The tensors of a layer's feed-forward block."""
        hidden, inner = config.hidden_size, config.intermediate_size
        slots: Slots = {
            "mlp.gate_proj.weight": place.slot("mlp.gate_up", (inner, hidden), (ALL, 0), transpose=True),
            "mlp.up_proj.weight": place.slot("mlp.gate_up", (inner, hidden), (ALL, 1), transpose=True),
            "mlp.down_proj.weight": place.slot("mlp.down", (hidden, inner), transpose=True),
        }
        if config.mlp_bias:
            slots["mlp.gate_proj.bias"] = place.slot("mlp.gate_up_bias", (inner,), (0,))
            slots["mlp.up_proj.bias"] = place.slot("mlp.gate_up_bias", (inner,), (1,))
            slots["mlp.down_proj.bias"] = place.slot("mlp.down_bias", (hidden,))
        return slots

    def ignores(self, tensor: str, config: DecoderConfig) -> bool:
        # Older converters stored RoPE's frequencies; tied models may carry their embedding a second time.
        return tensor.endswith(".rotary_emb.inv_freq") or (config.tie_embeddings and tensor == self.head)
