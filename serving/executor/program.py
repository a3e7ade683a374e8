"""The two programs of an LLM: a batch of decodes, and a chunk of prefills.

Each reads the pool while the layers run and writes all layers' new keys and values once, at the end, in place.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
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


class DecodeInputs(NamedTuple):
    """One row per sequence. Padding rows have the last slot and no tokens."""

    slots: Int32[Array, "seqs"]
    kv_lens: Int32[Array, "seqs"]  # the token to run included
    page_table: Int32[Array, "seqs max_pages"]


class PrefillInputs(NamedTuple):
    """A ragged chunk: sequence s owns rows query_start_loc[s] to query_start_loc[s + 1]; the rest is padding."""

    token_ids: Int32[Array, "tokens"]
    query_start_loc: Int32[Array, "seqs_and_one"]
    slots: Int32[Array, "seqs"]  # the last slot for sequences whose prompt goes on in a later chunk
    kv_lens: Int32[Array, "seqs"]  # the chunk's tokens included
    page_table: Int32[Array, "seqs max_pages"]


class StepResult(NamedTuple):
    """What a program gives back; the first two take their arguments' memory."""

    pool: Pool
    state: SlotState
    sampled: Sampled


@dataclass(frozen=True)
class Programs:
    """The functions that are compiled for one LLM.

    Attributes:
        graph: the decoder without its parameters.
        structure: of the parameters' tree, whose leaves are passed flat (nested containers cost time per call).
        head_dim: of the pool's view, a power of two.
        sm_scale: scale of the attention scores.
        implementation: of the attention kernels; None picks the best for the device.
    """

    graph: nnx.GraphDef[Any]
    structure: Any
    head_dim: int
    sm_scale: float
    implementation: Implementation | None = None

    def decode(
        self,
        leaves: Leaves,
        pool: Pool,
        state: SlotState,
        page_blocks: PageBlocks,
        options: SamplingOptions,
        inputs: DecodeInputs,
    ) -> StepResult:
        """Run each sequence's newest token and sample the next one."""
        view = self._view(pool)
        positions = jnp.maximum(inputs.kv_lens - 1, 0)
        is_real = inputs.slots < state.last_tokens.shape[0] - 1

        def attend(queries: Array, keys: Array, values: Array, layer_blocks: Array) -> Array:
            return paged_decode(
                queries,
                keys,
                values,
                view,
                layer_blocks,
                inputs.page_table,
                inputs.kv_lens,
                sm_scale=self.sm_scale,
                implementation=self.implementation,
            )

        decoder = self._decoder(leaves)
        hidden, (keys, values) = decoder(state.last_tokens[inputs.slots], positions, attend, page_blocks)
        rows = jnp.arange(positions.shape[0])
        slot_mapping = _slot_mapping(inputs.page_table, rows, positions, view.shape[2], is_real)
        logits = decoder.logits(hidden)
        return self._finish(
            pool, state, page_blocks, options, inputs.slots, inputs.kv_lens, logits, keys, values, slot_mapping
        )

    def prefill(
        self,
        leaves: Leaves,
        pool: Pool,
        state: SlotState,
        page_blocks: PageBlocks,
        options: SamplingOptions,
        inputs: PrefillInputs,
    ) -> StepResult:
        """Run a chunk of prompt tokens; sample the next token of sequences whose prompt ends in it."""
        view = self._view(pool)
        ends = inputs.query_start_loc[1:]
        rows = jnp.arange(inputs.token_ids.shape[0], dtype=jnp.int32)
        is_real = rows < ends[-1]
        owner = jnp.minimum(jnp.searchsorted(ends, rows, side="right"), ends.shape[0] - 1)
        positions = jnp.where(is_real, inputs.kv_lens[owner] - ends[owner] + rows, 0)

        def attend(queries: Array, keys: Array, values: Array, layer_blocks: Array) -> Array:
            return ragged_prefill(
                queries,
                keys,
                values,
                view,
                layer_blocks,
                inputs.page_table,
                inputs.query_start_loc,
                inputs.kv_lens,
                sm_scale=self.sm_scale,
                implementation=self.implementation,
            )

        decoder = self._decoder(leaves)
        hidden, (keys, values) = decoder(inputs.token_ids, positions, attend, page_blocks)
        slot_mapping = _slot_mapping(inputs.page_table, owner, positions, view.shape[2], is_real)
        logits = decoder.logits(hidden[jnp.maximum(ends - 1, 0)])
        return self._finish(
            pool, state, page_blocks, options, inputs.slots, inputs.kv_lens, logits, keys, values, slot_mapping
        )

    def _finish(
        self,
        pool: Pool,
        state: SlotState,
        page_blocks: PageBlocks,
        options: SamplingOptions,
        slots: Int32[Array, "seqs"],
        next_positions: Int32[Array, "seqs"],
        logits: Float[Array, "seqs vocab"],
        keys: Float[Array, "layers tokens kv_heads dim"],
        values: Float[Array, "layers tokens kv_heads dim"],
        slot_mapping: Int32[Array, "tokens"],
    ) -> StepResult:
        """Write the pool once, after everything that reads it, and sample."""
        # Without the barrier XLA may start the write early and copy the pool for the readers.
        keys, values, logits = jax.lax.optimization_barrier((keys, values, logits))
        written = pool_write(
            self._view(pool), keys, values, page_blocks, slot_mapping, implementation=self.implementation
        )
        row_options = SamplingOptions(*(column[slots] for column in options))
        sampled = sample(logits, row_options, state.counts, slots, next_positions)
        return StepResult(written.reshape(pool.shape), state.record(slots, sampled), sampled)

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


def update_page_blocks(
    page_blocks: PageBlocks, pages: Int32[Array, "added"], rows: Int32[Array, "layers added kv_heads"]
) -> PageBlocks:
    """The device's table with the head blocks of newly added pages; padding pages are past its end."""
    return page_blocks.at[:, pages].set(rows, mode="drop")
