"""The shape of a decoder, whatever file format it came from."""

import math
from dataclasses import dataclass, fields

from muxjax.models.errors import ConfigError

MAX_LAYERS = 1000  # beyond any model; a mistyped number should not exhaust the machine before it is noticed


@dataclass(frozen=True, slots=True)
class Llama3Scaling:
    """How Llama 3.1 stretches RoPE past the context it was trained on.

    Frequencies whose wavelength is below original_context / high_freq_factor stay, those above
    original_context / low_freq_factor are divided by `factor`, those between are interpolated.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context: int

    def __post_init__(self) -> None:
        if not self.factor >= 1:
            raise ConfigError(f"the RoPE scaling factor must be at least 1, not {self.factor}")
        if not 0 < self.low_freq_factor < self.high_freq_factor:
            raise ConfigError(
                "RoPE scaling needs 0 < low_freq_factor < high_freq_factor, "
                f"not {self.low_freq_factor} and {self.high_freq_factor}"
            )
        if self.original_context < 1:
            raise ConfigError(f"the RoPE scaling's original context must be positive, not {self.original_context}")


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """Rotary position embedding (Su et al. 2021): its base frequency and, if any, its scaling."""

    theta: float = 10_000.0
    scaling: Llama3Scaling | None = None

    def __post_init__(self) -> None:
        if not self.theta > 0:
            raise ConfigError(f"RoPE's theta must be positive, not {self.theta}")


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """A decoder of the Llama family.

    Attributes:
        vocab_size: rows of the embedding.
        hidden_size: width of the residual stream.
        intermediate_size: width of the MLP.
        num_layers: decoder layers.
        num_heads: query heads.
        num_kv_heads: key and value heads; divides num_heads.
        head_dim: width of one head; even, because RoPE rotates pairs.
        max_context: the most tokens of one sequence, prompt and output together.
        norm_eps: added to the mean square in RMSNorm.
        rope: the rotary position embedding.
        tie_embeddings: whether the output projection is the embedding, transposed.

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
    rope: RopeConfig = RopeConfig()
    tie_embeddings: bool = False

    def __post_init__(self) -> None:
        sizes = {field.name: getattr(self, field.name) for field in fields(self) if field.type is int}
        for name, size in sizes.items():
            most = MAX_LAYERS if name == "num_layers" else 2**31 - 1
            if not 1 <= size <= most:
                raise ConfigError(f"{name} must lie between 1 and {most}, not be {size}")
        if self.num_heads % self.num_kv_heads:
            raise ConfigError(f"num_heads ({self.num_heads}) must be a multiple of num_kv_heads ({self.num_kv_heads})")
        if self.head_dim % 2:
            raise ConfigError(f"head_dim must be even for rotary embeddings, not {self.head_dim}")
        if not 0 < self.norm_eps < 1:
            raise ConfigError(f"norm_eps must lie between 0 and 1, not {self.norm_eps}")

    @property
    def queries_per_kv(self) -> int:
        """Query heads that share one key and value head."""
        return self.num_heads // self.num_kv_heads

    @property
    def sm_scale(self) -> float:
        """What attention scores are multiplied by before the softmax."""
        return 1 / math.sqrt(self.head_dim)

    @property
    def num_parameters(self) -> int:
        """Weights of the whole decoder; tied embeddings count once."""
        heads = (2 * self.num_heads + 2 * self.num_kv_heads) * self.head_dim
        layer = self.hidden_size * (heads + 3 * self.intermediate_size + 2)
        embeddings = (1 if self.tie_embeddings else 2) * self.vocab_size * self.hidden_size
        return self.num_layers * layer + embeddings + self.hidden_size
