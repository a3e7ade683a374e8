"""The shape of a decoder, whatever file format it came from."""

from dataclasses import MISSING, dataclass, field, fields
from typing import Literal, get_args

from muxjax.models.errors import ConfigError
from muxjax.models.rope import RopeConfig

# Beyond any model; a mistyped number should not exhaust the machine before it is noticed.
MAX_LAYERS = 1000
MAX_EXPERTS = 100_000  # of all layers together

Activation = Literal["silu", "gelu", "gelu_tanh", "relu"]


@dataclass(frozen=True, slots=True)
class ExpertsConfig:
    """A sparse feed-forward block: each token is served by the few experts that its router likes best.

    Attributes:
        num_experts: gated blocks to choose from.
        per_token: how many of them serve a token.
        intermediate_size: width of one expert.
        normalize: whether the chosen experts' probabilities are scaled to sum to 1.
    """

    num_experts: int
    per_token: int
    intermediate_size: int
    normalize: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.per_token <= self.num_experts:
            raise ConfigError(f"{self.per_token} experts per token cannot be chosen from {self.num_experts}")


@dataclass(frozen=True, slots=True)
class LayerConfig:
    """What may differ from layer to layer.

    Attributes:
        rope: the rotary position embedding; None for none.
        sliding_window: how many of the last tokens one sees, itself counted; None for all.
        experts: the sparse feed-forward block; None for a dense one.
    """

    rope: RopeConfig | None
    sliding_window: int | None
    experts: ExpertsConfig | None


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """A decoder, by default of the Llama family; the other families differ by the options.

    Attributes:
        vocab_size: rows of the embedding.
        hidden_size: width of the residual stream.
        intermediate_size: width of the MLP.
        num_layers: decoder layers.
        num_heads: query heads.
        num_kv_heads: key and value heads; divides num_heads.
        head_dim: width of one head; even where RoPE rotates pairs.
        max_context: the most tokens of one sequence, prompt and output together.
        norm_eps: added to the mean square, or the variance, in norms.
        rope: the rotary position embedding; None for none.
        tie_embeddings: whether the output projection is the embedding, transposed.
        activation: of the MLP.
        gated_mlp: whether the activation gates a second projection.
        norm: RMSNorm, or LayerNorm with biases.
        norm_adds_one: whether RMSNorm multiplies by 1 + scale.
        pre_norm: whether attention and MLP are normalised before.
        post_norm: whether what they add to the residual stream is normalised.
        qk_norm: whether queries and keys are normalised, head by head or over all heads at once.
        parallel: whether attention and MLP both read what comes into the layer, through one norm or one each; None if
            the MLP reads what attention has added to.
        qkv_bias: whether queries, keys and values have a bias.
        out_bias: whether attention's output projection has one.
        mlp_bias: whether the MLP's projections have.
        head_bias: whether the output projection has.
        learned_positions: whether a learned embedding of the position is added to that of the token.
        position_offset: how many of these embeddings come before that of position 0.
        embedding_scale: what embeddings are multiplied by, rounded to their dtype.
        residual_scale: what the outputs of attention and MLP are multiplied by before they are added.
        attention_scale: what attention scores are multiplied by; None for head_dim ** -0.5.
        attention_soft_cap: bounds attention scores s to cap * tanh(s / cap); None for no bound.
        logit_divisor: what logits are divided by.
        logit_soft_cap: bounds the logits likewise.
        sliding_window: how many of the last tokens one sees in `sliding_layers`, itself counted.
        sliding_layers: those layers.
        sliding_rope: their rotary embedding; None for that of the others.
        unrotated_layers: layers without a rotary embedding all the same.
        experts: the sparse feed-forward blocks, in all layers but `dense_layers`.
        dense_layers: layers of a sparse model that have the MLP all the same.

    Raises:
        ConfigError: sizes that cannot be, or do not fit together.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_context: int
    norm_eps: float = 1e-5
    rope: RopeConfig | None = field(default_factory=RopeConfig)
    tie_embeddings: bool = False
    activation: Activation = "silu"
    gated_mlp: bool = True
    norm: Literal["rms", "layer"] = "rms"
    norm_adds_one: bool = False
    pre_norm: bool = True
    post_norm: bool = False
    qk_norm: Literal["head", "full"] | None = None
    parallel: Literal["one_norm", "two_norms"] | None = None
    qkv_bias: bool = False
    out_bias: bool = False
    mlp_bias: bool = False
    head_bias: bool = False
    learned_positions: bool = False
    position_offset: int = 0
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    attention_scale: float | None = None
    attention_soft_cap: float | None = None
    logit_divisor: float = 1.0
    logit_soft_cap: float | None = None
    sliding_window: int | None = None
    sliding_layers: tuple[int, ...] = ()
    sliding_rope: RopeConfig | None = None
    unrotated_layers: tuple[int, ...] = ()
    experts: ExpertsConfig | None = None
    dense_layers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        required = [each.name for each in fields(self) if each.type is int and each.default is MISSING]
        sizes = {name: getattr(self, name) for name in required}
        for name, size in sizes.items():
            most = MAX_LAYERS if name == "num_layers" else 2**31 - 1
            if not 1 <= size <= most:
                raise ConfigError(f"{name} must lie between 1 and {most}, not be {size}")
        if self.num_heads % self.num_kv_heads:
            raise ConfigError(f"num_heads ({self.num_heads}) must be a multiple of num_kv_heads ({self.num_kv_heads})")
        if not 0 < self.norm_eps < 1:
            raise ConfigError(f"norm_eps must lie between 0 and 1, not {self.norm_eps}")
        if self.activation not in get_args(Activation):
            raise ConfigError(f"activation must be one of {', '.join(get_args(Activation))}, not {self.activation!r}")
        if self.experts is not None and self.experts.num_experts * self.num_layers > MAX_EXPERTS:
            raise ConfigError(f"{self.num_layers} layers of {self.experts.num_experts} experts are more than can be")
        self._check_layers()
        for rope in (self.rope, self.sliding_rope):
            if rope is not None:
                rope.check_head(self.head_dim)

    def _check_layers(self) -> None:
        for name in ("sliding_layers", "unrotated_layers", "dense_layers"):
            if outside := [layer for layer in getattr(self, name) if not 0 <= layer < self.num_layers]:
                raise ConfigError(f"{name} names layers {outside} of {self.num_layers}")
        if self.sliding_layers and (self.sliding_window is None or self.sliding_window < 1):
            raise ConfigError(f"sliding layers need a sliding_window of at least 1, not {self.sliding_window}")

    @property
    def layers(self) -> tuple[LayerConfig, ...]:
        """The layers' own options, in order."""
        return tuple(map(self._layer, range(self.num_layers)))

    def _layer(self, layer: int) -> LayerConfig:
        is_sliding = layer in self.sliding_layers
        rope = self.sliding_rope if is_sliding and self.sliding_rope is not None else self.rope
        return LayerConfig(
            rope=None if layer in self.unrotated_layers else rope,
            sliding_window=self.sliding_window if is_sliding else None,
            experts=None if layer in self.dense_layers else self.experts,
        )

    @property
    def is_stacked(self) -> bool:
        """Whether the layers' parameters have the same shapes, so that they are kept in stacks."""
        return len({layer.experts for layer in self.layers}) == 1

    @property
    def queries_per_kv(self) -> int:
        """Query heads that share one key and value head."""
        return self.num_heads // self.num_kv_heads

    @property
    def sm_scale(self) -> float:
        """What attention scores are multiplied by before the softmax."""
        return float(self.head_dim**-0.5) if self.attention_scale is None else self.attention_scale

    @property
    def length_switch(self) -> int | None:
        """Sequences longer than this are rotated in another way than shorter ones; None if length does not matter."""
        switches = {layer.rope.length_switch for layer in self.layers if layer.rope is not None} - {None}
        return min(switch for switch in switches if switch is not None) if switches else None

    @property
    def num_parameters(self) -> int:
        """Weights of the whole decoder; tied embeddings count once."""
        embeddings = (1 if self.tie_embeddings else 2) * self.vocab_size * self.hidden_size
        if self.learned_positions:
            embeddings += (self.max_context + self.position_offset) * self.hidden_size
        embeddings += self.head_bias * self.vocab_size
        layers = sum(self._attention_parameters + self._mlp_parameters(layer.experts) for layer in self.layers)
        return embeddings + layers + self._norm_parameters

    @property
    def _attention_parameters(self) -> int:
        queries, keys = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        weights = self.hidden_size * (2 * queries + 2 * keys)
        norms = {None: 0, "head": 2 * self.head_dim, "full": queries + keys}[self.qk_norm]
        return weights + norms + self.qkv_bias * (queries + 2 * keys) + self.out_bias * self.hidden_size

    def _mlp_parameters(self, experts: ExpertsConfig | None) -> int:
        if experts is not None:
            return self.hidden_size * experts.num_experts * (1 + 3 * experts.intermediate_size)
        inner = (2 if self.gated_mlp else 1) * self.intermediate_size
        weights = self.hidden_size * (inner + self.intermediate_size)
        return weights + self.mlp_bias * (inner + self.hidden_size)

    @property
    def _norm_parameters(self) -> int:
        before = self.pre_norm * (1 if self.parallel == "one_norm" else 2)
        norms = 1 + self.num_layers * (before + 2 * self.post_norm)
        return norms * self.hidden_size * (2 if self.norm == "layer" else 1)
