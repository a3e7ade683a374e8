"""Where a layer's tensors go: into its part of the stack of all layers, or into a layer of its own."""

from collections.abc import Mapping
from dataclasses import dataclass

from muxjax.models.config import DecoderConfig, ExpertsConfig
from muxjax.models.weights import FusedSlot, Index, TensorSlot

Slots = dict[str, TensorSlot | FusedSlot]
ALL = slice(None)


@dataclass(frozen=True, slots=True)
class LayerPlace:
    """One layer's place in the parameters of a decoder.

    Attributes:
        prefix: of its leaves' names.
        index: its part of each leaf; empty if the leaves are its own.
        experts: its sparse feed-forward block, if it has one.
    """

    prefix: str
    index: Index
    experts: ExpertsConfig | None

    @classmethod
    def outside(cls) -> "LayerPlace":
        """The place of what is in no layer."""
        return cls("", (), None)

    @classmethod
    def of(cls, config: DecoderConfig, layer: int) -> "LayerPlace":
        """The place of a layer, counted from 0."""
        experts = config.layers[layer].experts
        return cls("layers.", (layer,), experts) if config.is_stacked else cls(f"layers.{layer}.", (), experts)

    def slot(self, leaf: str, shape: tuple[int, ...], index: Index = (), *, transpose: bool = False) -> TensorSlot:
        """The slot of one of the layer's tensors; leaf and index are those within the layer."""
        return TensorSlot(f"{self.prefix}{leaf}", shape, (*self.index, *index), transpose)


def qkv_parts(config: DecoderConfig) -> Mapping[str, tuple[int, Index]]:
    """The widths of queries, keys and values, and where they are among [kv_heads, queries_per_kv + 2, dim]."""
    queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    return {"q": (queries, (ALL, slice(-2))), "k": (keys, (ALL, -2)), "v": (keys, (ALL, -1))}


def norm_slots(config: DecoderConfig, place: LayerPlace, norm: str, name: str) -> Slots:
    """The tensors of one of the configuration's norms, which a checkpoint calls `name`."""
    slots: Slots = {f"{name}.weight": place.slot(f"{norm}.scale", (config.hidden_size,))}
    if config.norm == "layer":
        slots[f"{name}.bias"] = place.slot(f"{norm}.bias", (config.hidden_size,))
    return slots


def plain_mlp_slots(config: DecoderConfig, place: LayerPlace, up: str, down: str) -> Slots:
    """The tensors of a feed-forward block without a gate."""
    hidden, inner = config.hidden_size, config.intermediate_size
    slots: Slots = {
        f"{up}.weight": place.slot("mlp.up", (inner, hidden), transpose=True),
        f"{down}.weight": place.slot("mlp.down", (hidden, inner), transpose=True),
    }
    if config.mlp_bias:
        slots[f"{up}.bias"] = place.slot("mlp.up_bias", (inner,))
        slots[f"{down}.bias"] = place.slot("mlp.down_bias", (hidden,))
    return slots


def expert_slots(config: DecoderConfig, place: LayerPlace, block: str, names: Mapping[str, str]) -> Slots:
    """The tensors of a sparse feed-forward block, which `names` calls by what they are: gate, up and down."""
    hidden, experts = config.hidden_size, place.experts
    if experts is None:
        raise ValueError("a dense layer has no experts")
    inner = experts.intermediate_size
    slots: Slots = {f"{block}.gate.weight": place.slot("mlp.router", (experts.num_experts, hidden), transpose=True)}
    for expert in range(experts.num_experts):
        parts = {
            "gate": place.slot("mlp.gate_up", (inner, hidden), (expert, ALL, 0), transpose=True),
            "up": place.slot("mlp.gate_up", (inner, hidden), (expert, ALL, 1), transpose=True),
            "down": place.slot("mlp.down", (hidden, inner), (expert,), transpose=True),
        }
        slots |= {f"{block}.experts.{expert}.{name}.weight": parts[part] for part, name in names.items()}
    return slots
