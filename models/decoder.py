"""The decoder shared by the Llama family: layers stacked and scanned, attention passed in."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PyTree

from muxjax.models.attention import Attend, Attention, KeyValues
from muxjax.models.config import DecoderConfig
from muxjax.models.linear import init_weights, project
from muxjax.models.mlp import SwiGLU
from muxjax.models.norm import RMSNorm


class DecoderLayer(nnx.Module):
    """Attention and MLP, each normalised before and added to the residual stream."""

    def __init__(self, config: DecoderConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        self.attention_norm = RMSNorm(config.hidden_size, eps=config.norm_eps, dtype=dtype)
        self.attention = Attention(config, dtype=dtype, rngs=rngs)
        self.mlp_norm = RMSNorm(config.hidden_size, eps=config.norm_eps, dtype=dtype)
        self.mlp = SwiGLU(config, dtype=dtype, rngs=rngs)

    def __call__(
        self, hidden: Float[Array, "tokens hidden"], positions: Int[Array, " tokens"], attend: Attend
    ) -> tuple[Float[Array, "tokens hidden"], KeyValues]:
        """The residual stream after this layer, and the tokens' keys and values exactly as `attend` got them."""
        attended, keys_values = self.attention(self.attention_norm(hidden), positions, attend)
        hidden = hidden + attended
        return hidden + self.mlp(self.mlp_norm(hidden)), keys_values


class Decoder(nnx.Module):
    """Embedding, layers, final norm and output projection.

    Knows nothing of batches or caches: tokens are rows, and `attend` decides which rows belong together. Parameters
    of all layers are stacked (leading axis = layer), so that the program's size does not grow with depth.
    """

    def __init__(self, config: DecoderConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        self.config = config
        if not config.tie_embeddings:
            self.embedding = init_weights(rngs, (config.vocab_size, config.hidden_size), dtype)

        @nnx.split_rngs(splits=config.num_layers)
        @nnx.vmap
        def stacked_layers(rngs: nnx.Rngs) -> DecoderLayer:
            return DecoderLayer(config, dtype=dtype, rngs=rngs)

        self.layers = stacked_layers(rngs)
        self.norm = RMSNorm(config.hidden_size, eps=config.norm_eps, dtype=dtype)
        self.head = init_weights(rngs, (config.hidden_size, config.vocab_size), dtype)

    def __call__(
        self,
        token_ids: Int[Array, " tokens"],
        positions: Int[Array, " tokens"],
        attend: Callable[..., Float[Array, "tokens q_heads dim"]],
        layer_inputs: PyTree[Array] | None = None,
    ) -> tuple[Float[Array, "tokens hidden"], KeyValues]:
        """Run all layers.

        Args:
            token_ids: the tokens, of any number of sequences.
            positions: each token's position in its own sequence.
            attend: attend(queries, keys, values), or attend(queries, keys, values, layer_input) with layer_inputs.
            layer_inputs: leaves `[layers, ...]`; each layer's slice is passed to `attend`.

        Returns:
            The hidden states after the final norm, and `keys, values [layers, tokens, kv_heads, dim]` (after RoPE).
        """

        def run_layer(hidden: Array, scanned: tuple[DecoderLayer, Any]) -> tuple[Array, KeyValues]:
            layer, layer_input = scanned
            if layer_inputs is None:
                return layer(hidden, positions, attend)
            return layer(hidden, positions, lambda *qkv: attend(*qkv, layer_input))

        hidden, keys_values = jax.lax.scan(run_layer, self._embed(token_ids), (self.layers, layer_inputs))
        return self.norm(hidden), keys_values

    def logits(self, hidden: Float[Array, "rows hidden"]) -> Float[Array, "rows vocab"]:
        """Next-token logits in float32, of rows that __call__ returned."""
        return project(hidden, self.head[...], accumulate=jnp.float32)

    def _embed(self, token_ids: Int[Array, " tokens"]) -> Float[Array, "tokens hidden"]:
        if self.config.tie_embeddings:
            # Kept as [hidden, vocab]: columns are cheap to gather, but bf16 products with a transpose are slow on CPUs.
            return self.head[...][:, token_ids].T
        return self.embedding[...][token_ids]
