"""The decoder that the families share: attention passed in, layers stacked or one by one."""

import dataclasses
import functools
from collections.abc import Callable
from typing import ClassVar, Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Int, PyTree

from muxjax.models.attention import Attend, Attention, KeyValues, cap
from muxjax.models.collectives import num_devices, own_ids
from muxjax.models.config import DecoderConfig, LayerConfig
from muxjax.models.linear import add_bias, init_bias, init_weights, look_up, project
from muxjax.models.mlp import MLP, GatedMLP
from muxjax.models.moe import Experts
from muxjax.models.norm import LayerNorm, RMSNorm, make_norm
from muxjax.models.quantization import Weights, dequantize
from muxjax.models.rope import RopeConfig, Rotate, apply_rope, make_rotation
from muxjax.models.sharding import Cut

_NO_TOKEN = -1e30
"""The logit of a column that only fills the vocabulary up: never chosen, while the sum of a row stays finite."""


class Layer(Protocol):
    """What a decoder stacks: a module made from the configuration, which knows nothing of caches."""

    def __init__(self, config: DecoderConfig, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None: ...

    def __call__(
        self, hidden: Float[Array, "tokens hidden"], rotate: Rotate, attend: Attend
    ) -> tuple[Float[Array, "tokens hidden"], KeyValues]:
        """The residual stream after this layer, and the tokens' keys and values exactly as `attend` got them."""
        ...


class DecoderLayer(nnx.Module):
    """Attention and MLP, one after the other or side by side, each added to the residual stream.

    Normalised before, or after, or both.
    """

    def __init__(self, config: DecoderConfig, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.attention_norm = make_norm(config, dtype=dtype) if config.pre_norm else None
        self.attention = Attention(config, dtype=dtype, rngs=rngs)
        self.attention_post_norm = make_norm(config, dtype=dtype) if config.post_norm else None
        has_mlp_norm = config.pre_norm and config.parallel != "one_norm"
        self.mlp_norm = make_norm(config, dtype=dtype) if has_mlp_norm else None
        self.mlp = _make_mlp(config, dtype=dtype, rngs=rngs)
        self.mlp_post_norm = make_norm(config, dtype=dtype) if config.post_norm else None
        self.parallel = config.parallel
        self.residual_scale = config.residual_scale

    def __call__(
        self, hidden: Float[Array, "tokens hidden"], rotate: Rotate, attend: Attend
    ) -> tuple[Float[Array, "tokens hidden"], KeyValues]:
        normed = _normed(self.attention_norm, hidden)
        attended, keys_values = self.attention(normed, rotate, attend)
        after_attention = self._add(hidden, _normed(self.attention_post_norm, attended))
        match self.parallel:
            case "one_norm":
                read = normed
            case "two_norms":
                read = _normed(self.mlp_norm, hidden)
            case None:
                read = _normed(self.mlp_norm, after_attention)
        return self._add(after_attention, _normed(self.mlp_post_norm, self.mlp(read))), keys_values

    def _add(
        self, hidden: Float[Array, "tokens hidden"], output: Float[Array, "tokens hidden"]
    ) -> Float[Array, "tokens hidden"]:
        return hidden + (output if self.residual_scale == 1 else output * self.residual_scale)


class Decoder(nnx.Module):
    """Embedding, layers, final norm and output projection.

    Knows nothing of batches or caches: tokens are rows, and `attend` decides which rows belong together. Parameters
    of all layers are stacked (leading axis = layer), until `unroll` takes them apart; layers that are all alike are
    scanned. Only a model with sparse and dense layers has no stack: its parameters do not fit each other. A subclass
    may put another kind of layer in `layer_class`.
    """

    layer_class: ClassVar[type[Layer]] = DecoderLayer
    layers: Layer | nnx.List[Layer]

    def __init__(self, config: DecoderConfig, *, dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.config = config
        if not config.tie_embeddings:
            rows = (config.vocab_size, config.hidden_size)
            self.embedding = init_weights(rngs, rows, dtype, in_axis=1, cut=Cut.ROWS)
        if config.learned_positions:
            rows = (config.position_offset + config.max_context, config.hidden_size)
            self.positions = init_weights(rngs, rows, dtype, in_axis=1, cut=Cut.WHOLE)
        self.layers = self._make_layers(dtype, rngs)
        self.norm = make_norm(config, dtype=dtype)
        self.head = init_weights(rngs, (config.hidden_size, config.vocab_size), dtype, cut=Cut.COLUMNS)
        self.head_bias = init_bias((config.vocab_size,), dtype, cut=Cut.COLUMNS) if config.head_bias else None

    def __call__(
        self,
        token_ids: Int[Array, " tokens"],
        positions: Int[Array, " tokens"],
        attend: Callable[..., Float[Array, "tokens q_heads dim"]],
        layer_inputs: PyTree[Array] | None = None,
        *,
        lengths: Int[Array, " tokens"] | None = None,
    ) -> tuple[Float[Array, "tokens hidden"], KeyValues]:
        """Run all layers.

        Args:
            token_ids: the tokens, of any number of sequences.
            positions: each token's position in its own sequence.
            attend: attend(queries, keys, values, sm_scale=..., sliding_window=..., soft_cap=...), the options being
                the layer's; with layer_inputs the layer's slice of them is its fourth argument.
            layer_inputs: leaves `[layers, ...]`.
            lengths: how long each token's sequence is, for a RoPE that depends on it; by default the highest position
                of the call says it, as if all were one sequence.

        Returns:
            The hidden states after the final norm, and `keys, values [layers, tokens, kv_heads, dim]` (after RoPE).
        """
        rotations = self._make_rotations(positions, lengths)

        def run_layer(
            hidden: Array, layer: Layer, layer_input: PyTree[Array] | None, config: LayerConfig
        ) -> tuple[Array, KeyValues]:
            def attend_in_layer(*qkv: Array) -> Array:
                inputs = qkv if layer_inputs is None else (*qkv, layer_input)
                return attend(
                    *inputs,
                    sm_scale=self.config.sm_scale,
                    sliding_window=config.sliding_window,
                    soft_cap=self.config.attention_soft_cap,
                )

            return layer(hidden, rotations[config.rope], attend_in_layer)

        hidden = self._embed(token_ids, positions)
        layers = self.config.layers
        if not isinstance(self.layers, nnx.List) and len(set(layers)) == 1:
            hidden, keys_values = jax.lax.scan(
                lambda hidden, scanned: run_layer(hidden, *scanned, layers[0]), hidden, (self.layers, layer_inputs)
            )
            return self.norm(hidden), keys_values
        by_layer = []
        for index, config in enumerate(layers):
            layer_input = jax.tree.map(lambda leaf, index=index: leaf[index], layer_inputs)
            hidden, keys_values = run_layer(hidden, self._layer(index), layer_input, config)
            # Without the barrier XLA keeps each layer's whole projection, to take them out again for the stack. On
            # CPUs it costs up to a tenth of a decode step.
            barrier = jax.lax.optimization_barrier
            by_layer.append(jax.lax.platform_dependent(keys_values, cpu=lambda parts: parts, default=barrier))
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
            parts.append([take_layer(stack, index) for index in range(self.config.num_layers)])
        states = [jax.tree.unflatten(structure, leaves) for leaves in zip(*parts, strict=True)]
        self.layers = nnx.List([nnx.merge(graph, state) for state in states])

    def logits(self, hidden: Float[Array, "rows hidden"]) -> Float[Array, "rows vocab"]:
        """Next-token logits in float32, of rows that __call__ returned; each device has its tokens'."""
        logits = add_bias(project(hidden, self.head[...], accumulate=jnp.float32), self.head_bias)
        logits = cap(logits / self.config.logit_divisor, self.config.logit_soft_cap)
        columns = logits.shape[1]
        if columns * num_devices() == self.config.vocab_size:
            return logits
        return jnp.where(own_ids(columns) < self.config.vocab_size, logits, _NO_TOKEN)

    def _make_layers(self, dtype: DTypeLike, rngs: nnx.Rngs) -> Layer | nnx.List[Layer]:
        config = self.config
        of_layers = [dataclasses.replace(config, experts=layer.experts) for layer in config.layers]
        if not config.is_stacked:
            return nnx.List([self.layer_class(of_layer, dtype=dtype, rngs=rngs) for of_layer in of_layers])

        @nnx.split_rngs(splits=config.num_layers)
        @nnx.vmap
        def stacked_layers(rngs: nnx.Rngs) -> Layer:
            return self.layer_class(of_layers[0], dtype=dtype, rngs=rngs)

        return stacked_layers(rngs)

    def _layer(self, index: int) -> Layer:
        if isinstance(self.layers, nnx.List):
            return self.layers[index]
        graph, stack = nnx.split(self.layers)
        return nnx.merge(graph, jax.tree.map(lambda leaf: leaf[index], stack))

    def _make_rotations(
        self, positions: Int[Array, " tokens"], lengths: Int[Array, " tokens"] | None
    ) -> dict[RopeConfig | None, Rotate]:
        """The rotation of each kind of layer, worked out once for all of that kind."""
        rotations: dict[RopeConfig | None, Rotate] = {None: lambda heads: heads}
        for rope in dict.fromkeys(layer.rope for layer in self.config.layers):
            if rope is not None:
                rotation = make_rotation(positions, self.config.head_dim, rope, lengths)
                rotations[rope] = functools.partial(apply_rope, rotation=rotation)
        return rotations

    def _embed(
        self, token_ids: Int[Array, " tokens"], positions: Int[Array, " tokens"]
    ) -> Float[Array, "tokens hidden"]:
        # Tied weights are kept as [hidden, vocab]: columns are cheap to gather, but bf16 products with a transpose are
        # slow on CPUs. (Written as [:, token_ids].T, the gather makes XLA widen all of them to float32.)
        rows: Weights = self.head[...].T if self.config.tie_embeddings else self.embedding[...]
        hidden = look_up(rows, token_ids)
        if self.config.embedding_scale != 1:
            hidden = hidden * jnp.asarray(self.config.embedding_scale, hidden.dtype)  # rounded, as in training
        if not self.config.learned_positions:
            return hidden
        return hidden + dequantize(self.positions[...][positions + self.config.position_offset])


def _make_mlp(config: DecoderConfig, *, dtype: DTypeLike, rngs: nnx.Rngs) -> GatedMLP | MLP | Experts:
    if config.experts is not None:
        return Experts(config, config.experts, dtype=dtype, rngs=rngs)
    return (GatedMLP if config.gated_mlp else MLP)(config, dtype=dtype, rngs=rngs)


def _normed(norm: RMSNorm | LayerNorm | None, hidden: Float[Array, "tokens hidden"]) -> Float[Array, "tokens hidden"]:
    return hidden if norm is None else norm(hidden)


@jax.jit
def take_layer(stack: Array, index: ArrayLike) -> Array:
    """A layer's parameter out of the stack of all; one program for all layers of a shape."""
    return jax.lax.dynamic_index_in_dim(stack, index, keepdims=False)
