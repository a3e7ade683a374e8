"""The sizes of a model that decide what it costs to serve."""

from dataclasses import dataclass

_ITEM_BYTES = 2  # weights, keys and values are served in 16 bits


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A decoder of the Llama family, or one whose MLP is a choice of experts.

    Attributes:
        name: how cost tables call it.
        layers: decoder layers.
        hidden_size: width of the residual stream.
        intermediate_size: width of the MLP, or of one expert.
        heads: query heads.
        kv_heads: key and value heads.
        head_dim: width of one head.
        vocab_size: rows of the embedding.
        tied: whether the output projection is the embedding.
        experts: MLPs in a layer; 1 without a router.
        active_experts: of those, how many a token goes through.
        nominal_billions: parameters by the model's name, in billions; None where the name says nothing.
    """

    name: str
    layers: int
    hidden_size: int
    intermediate_size: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    tied: bool = False
    experts: int = 1
    active_experts: int = 1
    nominal_billions: float | None = None

    @property
    def parameters(self) -> int:
        """Weights of the whole model."""
        return self.layers * self._layer_parameters(self.experts) + (2 - self.tied) * self.vocab_size * self.hidden_size

    @property
    def active_parameters(self) -> int:
        """Weights that one token is multiplied with: embeddings are looked up, but the output projection counts."""
        return self.layers * self._layer_parameters(self.active_experts) + self.vocab_size * self.hidden_size

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights in 16 bits."""
        return _ITEM_BYTES * self.parameters

    @property
    def weight_gb(self) -> float:
        """Gigabytes that memory rules count: two a billion parameters, by the model's name where it says how many.

        MuxServe's authors count so, which makes LLaMA-30B 60 GB and not the 65 that it has.
        """
        return self.weight_bytes / 1e9 if self.nominal_billions is None else 2 * self.nominal_billions

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of keys and values that one token keeps, over all layers."""
        return 2 * _ITEM_BYTES * self.layers * self.kv_heads * self.head_dim

    @property
    def kv_gb_per_token(self) -> float:
        """The same in GiB, in which MuxServe's authors count KV memory."""
        return self.kv_bytes_per_token / 1024**3

    def _layer_parameters(self, experts: int) -> int:
        attention = 2 * (self.heads + self.kv_heads) * self.head_dim * self.hidden_size
        router = self.hidden_size * self.experts if self.experts > 1 else 0
        return attention + router + 3 * experts * self.hidden_size * self.intermediate_size
