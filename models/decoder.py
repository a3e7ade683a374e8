"""The decoder shared by the Llama family: attention passed in, layers stacked or one by one."""

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Int, PyTree

from muxjax.models.attention import Attend, Attention, KeyValues
from muxjax.models.config import DecoderConfig
from muxjax.models.linear import init_weights, project
from muxjax.models.mlp import SwiGLU
from muxjax.models.norm import RMSNorm


class DecoderLayer(nnx.Module):
    """Attention and MLP, each normalised before and added to the residual stream."""

    def __init__(self, config: DecoderConfig, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
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
    of all layers are stacked (leading axis = layer) and scanned, until `unroll` takes them apart. A subclass may put
    another kind of layer in `layer_class`.
    """

    layer_class: ClassVar[type[DecoderLayer]] = DecoderLayer
    layers: DecoderLayer | nnx.List[DecoderLayer]

    def __init__(self, config: DecoderConfig, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.config = config
        if not config.tie_embeddings:
            self.embedding = init_weights(rngs, (config.vocab_size, config.hidden_size), dtype)

        @nnx.split_rngs(splits=config.num_layers)
        @nnx.vmap
        def stacked_layers(rngs: nnx.Rngs) -> DecoderLayer:
            return self.layer_class(config, dtype=dtype, rngs=rngs)

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

        hidden = self._embed(token_ids)
        if not isinstance(self.layers, nnx.List):
            hidden, keys_values = jax.lax.scan(run_layer, hidden, (self.layers, layer_inputs))
            return self.norm(hidden), keys_values
        by_layer = []
        for index, layer in enumerate(self.layers):
            layer_input = jax.tree.map(lambda leaf, index=index: leaf[index], layer_inputs)
            hidden, keys_values = run_layer(hidden, (layer, layer_input))
            by_layer.append(keys_values)
        return self.norm(hidden), jax.tree.map(lambda *parts: jnp.stack(parts), *by_layer)

    def unroll(self) -> None:
        """Take the stacked layers apart, in place, for inference.

        A scan copies every layer's weights out of the stack on each call, which makes a decode step of a few rows
        half as fast; a program with its layers unrolled takes 1.4 times as long to compile.
        """
        if isinstance(self.layers, nnx.List):
            return
        graph, state = nnx.split(self.layers)
        stacked, structure = jax.tree.flatten(state)
        del self.layers, state
        parts = []
        while stacked:  # each stack is freed before the next one is taken apart
            stack = stacked.pop(0)
            parts.append([_take_layer(stack, index) for index in range(self.config.num_layers)])
        states = [jax.tree.unflatten(structure, leaves) for leaves in zip(*parts, strict=True)]
        self.layers = nnx.List([nnx.merge(graph, state) for state in states])

    def logits(self, hidden: Float[Array, "rows hidden"]) -> Float[Array, "rows vocab"]:
        """Next-token logits in float32, of rows that __call__ returned."""
        return project(hidden, self.head[...], accumulate=jnp.float32)

    def _embed(self, token_ids: Int[Array, " tokens"]) -> Float[Array, "tokens hidden"]:
        # Tied weights are kept as [hidden, vocab]: columns are cheap to gather, but bf16 products with a transpose are
        # slow on CPUs. (Written as [:, token_ids].T, the gather makes XLA widen all of them to float32.)
        rows = self.head[...].T if self.config.tie_embeddings else self.embedding[...]
        return rows[token_ids]


@jax.jit
def _take_layer(stack: Array, index: ArrayLike) -> Array:
    return jax.lax.dynamic_index_in_dim(stack, index, keepdims=False)  # one program for all layers of a shape
