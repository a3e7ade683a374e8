"""Fields of config.json that many families share."""

from collections.abc import Mapping
from typing import NamedTuple

from muxjax.models.config import MAX_LAYERS, Activation
from muxjax.models.config_fields import ConfigFields
from muxjax.models.errors import ConfigError

ACTIVATIONS: Mapping[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
}
LAYER_TYPES = ("sliding_attention", "full_attention")


class Heads(NamedTuple):
    """How attention is divided."""

    num_heads: int
    num_kv_heads: int
    head_dim: int


def read_layers(fields: ConfigFields, name: str = "num_hidden_layers", default: int | None = None) -> range:
    """The layers' numbers."""
    return range(fields.integer(name, default, most=MAX_LAYERS))


def read_heads(fields: ConfigFields) -> Heads:
    """The heads, whose size is by default the hidden size divided by their number."""
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
    return Heads(num_heads, num_kv_heads, fields.integer("head_dim", hidden_size // num_heads))


def read_activation(fields: ConfigFields, name: str, default: str) -> Activation:
    """The activation of the MLP."""
    return ACTIVATIONS[fields.only(name, tuple(ACTIVATIONS), default=default)]


def write_activation(activation: Activation) -> str:
    """Hugging Face's name of it."""
    return next(name for name, ours in ACTIVATIONS.items() if ours == activation)


def read_sliding_layers(fields: ConfigFields, by_default: tuple[int, ...]) -> tuple[int, ...]:
    """The layers with a sliding window: those that layer_types says, or else the family's."""
    kinds = fields.choices("layer_types", LAYER_TYPES)
    if kinds is None:
        return by_default
    if len(kinds) != len(layers := read_layers(fields)):
        raise ConfigError(
            f"{fields.name('layer_types')} must name the kind of each of num_hidden_layers ({len(layers)}) layers, "
            f"not of {len(kinds)}"
        )
    return tuple(index for index, kind in enumerate(kinds) if kind == "sliding_attention")


def write_layer_types(sliding_layers: tuple[int, ...], num_layers: int) -> list[str]:
    """The layer_types that read_sliding_layers reads."""
    return ["sliding_attention" if layer in sliding_layers else "full_attention" for layer in range(num_layers)]


def refuse_quantization(fields: ConfigFields) -> None:
    """Raises ConfigError if the checkpoint's weights are quantized."""
    if "quantization_config" in fields:
        raise ConfigError("quantization_config asks for quantized weights, which are not supported")
