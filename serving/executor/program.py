"""The programs of an LLM: a batch of decodes, a chunk of prefills, and the sampling that follows either.

The first two read the pool while the layers run and write all layers' new keys and values once, at the end, in place.
Sampling is a program of its own, because it depends on the number of sequences only: one serves every size of chunk.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int32

from muxjax.pallas_kernels.implementation import Implementation
from muxjax.pallas_kernels.paged_decode import paged_decode
from muxjax.pallas_kernels.pool_write import pool_write
from muxjax.pallas_kernels.ragged_prefill import ragged_prefill
from muxjax.serving.executor.slots import SlotState
from muxjax.serving.sampling import Sampled, SamplingOptions, sample

Leaves = tuple[Array, ...]
Pool = Float[Array, "blocks 2 block_tokens lane"]
PageBlocks = Int32[Array, "layers pages kv_heads"]


class DecodeInputs[Rows: (Array, np.ndarray)](NamedTuple):
    """One row per sequence, on the host when a program is called. Padding rows have the last slot and no tokens."""

    slots: Int32[Rows, "seqs"]
    kv_lens: Int32[Rows, "seqs"]  # the token to run included
    page_table: Int32[Rows, "seqs max_pages"]


class PrefillInputs[Rows: (Array, np.ndarray)](NamedTuple):
    """A ragged chunk: sequence s owns rows query_start_loc[s] to query_start_loc[s + 1]; the rest is padding."""

    token_ids: Int32[Rows, "tokens"]
    query_start_loc: Int32[Rows, "seqs_and_one"]
    slots: Int32[Rows, "seqs"]  # the last slot for sequences whose prompt goes on in a later chunk
    kv_lens: Int32[Rows, "seqs"]  # the chunk's tokens included
    page_table: Int32[Rows, "seqs max_pages"]
    lengths: Int32[Rows, "seqs"]  # the tokens of the whole prompt, of which the chunk is a part


@dataclass(frozen=True)
class Programs:
    """The functions that are compiled for one LLM.

    Attributes:
        graph: the decoder without its parameters.
        structure: of the parameters' tree, whose leaves are passed flat (nested containers cost time per call).
        head_dim: of the pool's view, a power of two.
        max_context: the most tokens of one sequence.
        length_switch: longer sequences are rotated in another way (`DecoderConfig.length_switch`).
        implementation: of the attention kernels; None picks the best for the device.
    """

    graph: nnx.GraphDef[Any]
    structure: Any
    head_dim: int
    max_context: int
    length_switch: int | None = None
    implementation: Implementation | None = None

    def decode(
        self,
        leaves: Leaves,
        pool: Pool,
        last_tokens: Int32[Array, "slots"],
        page_blocks: PageBlocks,
        inputs: DecodeInputs[Array],
    ) -> tuple[Pool, Float[Array, "seqs vocab"]]:
        """Run each sequence's newest token; returns the pool with its keys and values, and the next one's logits."""
        view = self._view(pool)
        positions = jnp.maximum(inputs.kv_lens - 1, 0)
        is_real = inputs.kv_lens > 0

        def attend(queries: Array, keys: Array, values: Array, layer_blocks: Array, **options: Any) -> Array:
            return paged_decode(
                queries,
                keys,
                values,
                view,
                layer_blocks,
                inputs.page_table,
                inputs.kv_lens,
                **options,
                implementation=self.implementation,
            )

        decoder = self._decoder(leaves)
        lengths = self._rotated_lengths(inputs.kv_lens)
        hidden, (keys, values) = decoder(last_tokens[inputs.slots], positions, attend, page_blocks, lengths=lengths)
        rows = jnp.arange(positions.shape[0])
        slot_mapping = _slot_mapping(inputs.page_table, rows, positions, view.shape[2], is_real)
        return self._finish(pool, page_blocks, decoder.logits(hidden), keys, values, slot_mapping)

    def prefill(
        self,
        leaves: Leaves,
        pool: Pool,
        page_blocks: PageBlocks,
        inputs: PrefillInputs[Array],
    ) -> tuple[Pool, Float[Array, "seqs vocab"]]:
        """Run a chunk of prompt tokens; returns the pool with theirs, and the logits after each sequence's last."""
        view = self._view(pool)
        ends = inputs.query_start_loc[1:]
        rows = jnp.arange(inputs.token_ids.shape[0], dtype=jnp.int32)
        is_real = rows < ends[-1]
        owner = jnp.minimum(jnp.searchsorted(ends, rows, side="right"), ends.shape[0] - 1)
        positions = jnp.where(is_real, inputs.kv_lens[owner] - ends[owner] + rows, 0)

        def attend(queries: Array, keys: Array, values: Array, layer_blocks: Array, **options: Any) -> Array:
            return ragged_prefill(
                queries,
                keys,
                values,
                view,
                layer_blocks,
                inputs.page_table,
                inputs.query_start_loc,
                inputs.kv_lens,
                **options,
                implementation=self.implementation,
            )

        decoder = self._decoder(leaves)
        lengths = self._rotated_lengths(inputs.lengths)[owner]
        hidden, (keys, values) = decoder(inputs.token_ids, positions, attend, page_blocks, lengths=lengths)
        slot_mapping = _slot_mapping(inputs.page_table, owner, positions, view.shape[2], is_real)
        logits = decoder.logits(hidden[jnp.maximum(ends - 1, 0)])
        return self._finish(pool, page_blocks, logits, keys, values, slot_mapping)

    def _finish(
        self,
        pool: Pool,
        page_blocks: PageBlocks,
        logits: Float[Array, "seqs vocab"],
        keys: Float[Array, "layers tokens kv_heads dim"],
        values: Float[Array, "layers tokens kv_heads dim"],
        slot_mapping: Int32[Array, "tokens"],
    ) -> tuple[Pool, Float[Array, "seqs vocab"]]:
        """Write the pool once, after everything that reads it."""
        # Without the barrier XLA may start the write early and copy the pool for the readers.
        keys, values, logits = jax.lax.optimization_barrier((keys, values, logits))
        pool = pool_write(pool, keys, values, page_blocks, slot_mapping, implementation=self.implementation)
        return pool, logits

    def _rotated_lengths(self, lengths: Int32[Array, "seqs"]) -> Int32[Array, "seqs"]:
        """How long sequences are taken to be by a RoPE that depends on it: short as they are, or as long as can be.

        So all keys of a sequence are rotated alike, for the scheduler lets one that grows past the switch begin again.
        """
        if self.length_switch is None:
            return lengths
        return jnp.where(lengths > self.length_switch, self.max_context, lengths)

    def _decoder(self, leaves: Leaves) -> Any:
        return nnx.merge(self.graph, jax.tree.unflatten(self.structure, leaves))

    def _view(self, pool: Pool) -> Float[Array, "blocks 2 page_tokens head_dim"]:
        """The pool as this LLM sees it: head blocks of its own head size."""
        return pool.reshape(pool.shape[0], 2, -1, self.head_dim)


def _slot_mapping(
    page_table: Int32[Array, "seqs max_pages"],
    owner: Int32[Array, "tokens"],
    positions: Int32[Array, "tokens"],
    page_tokens: int,
    is_real: Array,
) -> Int32[Array, "tokens"]:
    """Where each token's keys and values go: page * page_tokens + offset, or -1 for padding."""
    pages = page_table[owner, positions // page_tokens]
    return jnp.where(is_real, pages * page_tokens + positions % page_tokens, -1)


def sample_next(
    state: SlotState,
    options: SamplingOptions,
    slots: Int32[Array, "seqs"],
    positions: Int32[Array, "seqs"],
    logits: Float[Array, "seqs vocab"],
) -> tuple[SlotState, Sampled]:
    """Choose the tokens at `positions`, and record them as the slots' newest; `options` are the whole table's."""
    row_options = SamplingOptions(*(column[slots] for column in options))
    sampled = sample(logits, row_options, state.counts, slots, positions)
    return state.record(slots, sampled), sampled


def update_page_blocks(
    page_blocks: PageBlocks, pages: Int32[Array, "added"], rows: Int32[Array, "layers added kv_heads"]
) -> PageBlocks:
    """The device's table with the head blocks of newly added pages; padding pages are past its end."""
    return page_blocks.at[:, pages].set(rows, mode="drop")
