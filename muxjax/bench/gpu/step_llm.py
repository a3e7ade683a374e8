"""An LLM of random weights on the device, and jobs of it as a step's program takes them."""

import json
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array

from muxjax.bench.gpu.scale import Fields
from muxjax.bench.kernels.paged import BLOCK_ELEMENTS, DTYPE
from muxjax.models.source import find_model
from muxjax.pallas_kernels.attention_inputs import lane_of
from muxjax.serving.executor.program import DecodeInputs, JobInputs, LLMInputs, PrefillInputs, Programs

_SCALE = 0.02


class StepLLM:
    """One LLM's weights and functions, without the engine around them."""

    def __init__(self, fields: Fields, *, max_context: int) -> None:
        """Weights are drawn leaf by leaf: there is never more in memory than they are, and one leaf."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "config.json"
            path.write_text(json.dumps(dict(fields)))
            found = find_model(f"random:{path}")
        self.config = found.config
        skeleton = found.skeleton(DTYPE, unroll=True)
        draw = jax.jit(lambda key, shape: _SCALE * jax.random.normal(key, shape, DTYPE), static_argnames="shape")
        keys = jax.random.split(jax.random.key(0), len(skeleton.leaves))
        leaves = {name: draw(key, leaf.shape) for key, (name, leaf) in zip(keys, skeleton.leaves.items(), strict=True)}
        graph, params = nnx.split(skeleton.fill(leaves))
        flat, structure = jax.tree.flatten(params)
        self.leaves = tuple(flat)
        self.functions = Programs(graph, structure, head_dim=lane_of(self.config.head_dim), max_context=max_context)

    @property
    def weight_bytes(self) -> int:
        """That a step reads, whatever its size: a row of the embedding is not all of it."""
        embedding = self.config.vocab_size * self.config.hidden_size * jnp.dtype(DTYPE).itemsize
        return sum(leaf.nbytes for leaf in self.leaves) - embedding

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values of all layers."""
        config = self.config
        return 2 * config.num_layers * config.num_kv_heads * lane_of(config.head_dim) * jnp.dtype(DTYPE).itemsize

    def prefill_operations(self, tokens: int) -> float:
        """Of a prompt's products, attention's over what each token sees; logits are of the last token only."""
        config = self.config
        logits = config.vocab_size * config.hidden_size
        layers = self.weight_bytes / jnp.dtype(DTYPE).itemsize - logits
        attention = 4 * config.num_layers * config.num_heads * config.head_dim * tokens * (tokens + 1) / 2
        return 2 * layers * tokens + 2 * logits + attention

    def jobs(
        self, blocks: "FreeBlocks", *, decode: tuple[int, int] | None = None, prefill: int | None = None
    ) -> LLMInputs[Array]:
        """A decode of (batch, context), a prompt of so many tokens, or both, on blocks that nobody else has."""
        config, rows = self.config, list[JobInputs[Array]]()
        page_tokens = BLOCK_ELEMENTS // lane_of(config.head_dim)
        sequences = ([decode[1]] * decode[0] if decode else []) + ([prefill] if prefill else [])
        pages_each = [-(-tokens // page_tokens) for tokens in sequences]
        table = np.zeros((len(sequences), max(pages_each)), np.int32)
        first = 1
        for row, pages in enumerate(pages_each):
            table[row, :pages] = np.arange(first, first + pages)
            first += pages
        page_blocks = np.zeros((config.num_layers, first, config.num_kv_heads), np.int32)
        page_blocks[:, 1:] = blocks.take((config.num_layers, first - 1, config.num_kv_heads))
        if decode:
            batch, context = decode
            rows.append(DecodeInputs(_ints(np.arange(batch)), _ints(np.full(batch, context)), _ints(table[:batch])))
        if prefill:
            tokens = np.arange(prefill) % config.vocab_size
            whole = _ints([prefill])
            rows.append(PrefillInputs(_ints(tokens), _ints([0, prefill]), _ints([0]), whole, _ints(table[-1:]), whole))
        last_tokens = _ints(np.arange(decode[0] if decode else 1) % config.vocab_size)
        return LLMInputs(self.leaves, jnp.asarray(page_blocks), last_tokens, tuple(rows))


class FreeBlocks:
    """The head blocks of a pool in random order; block 0 is nobody's."""

    def __init__(self, num_blocks: int) -> None:
        self._free = 1 + np.random.default_rng(0).permutation(num_blocks - 1)

    def take(self, shape: tuple[int, ...]) -> np.ndarray:
        """As many as the shape has places."""
        count = int(np.prod(shape))
        if count > self._free.size:
            raise ValueError(f"the benchmark's pool lacks {count - self._free.size} head blocks")
        taken, self._free = self._free[:count], self._free[count:]
        return taken.reshape(shape)


def _ints(values: object) -> Array:
    return jnp.asarray(values, jnp.int32)
