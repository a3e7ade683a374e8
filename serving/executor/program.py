"""The programs of a step: batches of decodes and chunks of prefills, and the sampling that follows either.

The first read the pool while the layers run and write all layers' new keys and values once, at the end, in place.
Sampling is a program of its own, because it depends on the number of sequences only: one serves every size of chunk.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
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


type JobInputs[Rows: (Array, np.ndarray)] = DecodeInputs[Rows] | PrefillInputs[Rows]


class LLMInputs[Rows: (Array, np.ndarray)](NamedTuple):
    """What one LLM brings into a step: its state on the device, and the rows of its jobs."""

    leaves: Leaves
    page_blocks: PageBlocks
    last_tokens: Int32[Array, "slots"] | None  # of which only decodes take some
    jobs: tuple[JobInputs[Rows], ...]


class _Rows(NamedTuple):
    """The rows of one job, as the decoder takes them."""

    token_ids: Int32[Array, "tokens"]
    positions: Int32[Array, "tokens"]
    lengths: Int32[Array, "tokens"]
    slot_mapping: Int32[Array, "tokens"]
    sampled: Int32[Array, "seqs"]  # the rows whose logits are wanted
    attend: Callable[..., Array]

    @property
    def num_tokens(self) -> int:
        return self.token_ids.shape[0]


class NewTokens(NamedTuple):
    """The keys and values that a step computed for an LLM, and where in the pool they belong."""

    keys: Float[Array, "layers tokens kv_heads dim"]
    values: Float[Array, "layers tokens kv_heads dim"]
    slot_mapping: Int32[Array, "tokens"]


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
        pool, ((logits,),) = run_step((self,), pool, (LLMInputs(leaves, page_blocks, last_tokens, (inputs,)),))
        return pool, logits

    def prefill(
        self,
        leaves: Leaves,
        pool: Pool,
        page_blocks: PageBlocks,
        inputs: PrefillInputs[Array],
    ) -> tuple[Pool, Float[Array, "seqs vocab"]]:
        """Run a chunk of prompt tokens; returns the pool with theirs, and the logits after each sequence's last."""
        pool, ((logits,),) = run_step((self,), pool, (LLMInputs(leaves, page_blocks, None, (inputs,)),))
        return pool, logits

    def forward(self, pool: Pool, inputs: LLMInputs[Array]) -> tuple[tuple[Float[Array, "seqs vocab"], ...], NewTokens]:
        """Run the LLM's rows through its weights once, whatever jobs they are of; the pool is only read.

        Returns the logits of each job, and the keys and values to write.
        """
        view = pool.reshape(pool.shape[0], 2, -1, self.head_dim)
        jobs = [
            self._prefill_rows(job, view)
            if isinstance(job, PrefillInputs)
            else self._decode_rows(job, inputs.last_tokens, view)
            for job in inputs.jobs
        ]
        starts = [0, *accumulate(job.num_tokens for job in jobs)]

        def attend(queries: Array, keys: Array, values: Array, layer_blocks: Array, **options: Any) -> Array:
            """Each job's rows by themselves."""
            return _join(
                job.attend(
                    *(rows[start : start + job.num_tokens] for rows in (queries, keys, values)), layer_blocks, **options
                )
                for start, job in zip(starts, jobs, strict=False)
            )

        decoder = nnx.merge(self.graph, jax.tree.unflatten(self.structure, inputs.leaves))
        token_ids, positions, lengths, slot_mapping = (_join(column) for column in list(zip(*jobs, strict=True))[:4])
        hidden, (keys, values) = decoder(token_ids, positions, attend, inputs.page_blocks, lengths=lengths)
        sampled = [start + job.sampled for start, job in zip(starts, jobs, strict=False)]
        logits = decoder.logits(hidden[_join(sampled)])
        ends = list(accumulate(rows.shape[0] for rows in sampled))
        return tuple(jnp.split(logits, ends[:-1])), NewTokens(keys, values, slot_mapping)

    def _decode_rows(self, inputs: DecodeInputs[Array], last_tokens: Int32[Array, "slots"] | None, view: Pool) -> _Rows:
        if last_tokens is None:
            raise ValueError("a decode needs the slots' last tokens")
        positions = jnp.maximum(inputs.kv_lens - 1, 0)
        rows = jnp.arange(positions.shape[0], dtype=jnp.int32)

        def attend(queries: Array, keys: Array, values: Array, layer_blocks: Array, **options: Any) -> Array:
            tables = inputs.page_table, inputs.kv_lens
            return paged_decode(
                queries, keys, values, view, layer_blocks, *tables, **options, implementation=self.implementation
            )

        return _Rows(
            last_tokens[inputs.slots],
            positions,
            self._rotated_lengths(inputs.kv_lens),
            _slot_mapping(inputs.page_table, rows, positions, view.shape[2], inputs.kv_lens > 0),
            rows,
            attend,
        )

    def _prefill_rows(self, inputs: PrefillInputs[Array], view: Pool) -> _Rows:
        ends = inputs.query_start_loc[1:]
        rows = jnp.arange(inputs.token_ids.shape[0], dtype=jnp.int32)
        is_real = rows < ends[-1]
        # By comparing all: a search in a loop could not be in a command buffer.
        owner = jnp.minimum(jnp.searchsorted(ends, rows, side="right", method="compare_all"), ends.shape[0] - 1)
        positions = jnp.where(is_real, inputs.kv_lens[owner] - ends[owner] + rows, 0)

        def attend(queries: Array, keys: Array, values: Array, layer_blocks: Array, **options: Any) -> Array:
            tables = inputs.page_table, inputs.query_start_loc, inputs.kv_lens
            return ragged_prefill(
                queries, keys, values, view, layer_blocks, *tables, **options, implementation=self.implementation
            )

        return _Rows(
            inputs.token_ids,
            positions,
            self._rotated_lengths(inputs.lengths)[owner],
            _slot_mapping(inputs.page_table, owner, positions, view.shape[2], is_real),
            jnp.maximum(ends - 1, 0),
            attend,
        )

    def _rotated_lengths(self, lengths: Int32[Array, "seqs"]) -> Int32[Array, "seqs"]:
        """How long sequences are taken to be by a RoPE that depends on it: short as they are, or as long as can be.

        So all keys of a sequence are rotated alike, for the scheduler lets one that grows past the switch begin again.
        """
        if self.length_switch is None:
            return lengths
        return jnp.where(lengths > self.length_switch, self.max_context, lengths)


def run_step(
    llms: Sequence[Programs], pool: Pool, inputs: Sequence[LLMInputs[Array]]
) -> tuple[Pool, tuple[tuple[Float[Array, "seqs vocab"], ...], ...]]:
    """The jobs of one LLM or of several: all read the pool as it is, and then everyone's new tokens are written to it.

    No job waits for another one, so that the device may run them side by side.

    Returns:
        The pool with the new tokens, in place if it is donated, and the logits of each job of each LLM.
    """
    forwards = [llm.forward(pool, brought) for llm, brought in zip(llms, inputs, strict=True)]
    # Without the barrier XLA may start a write early and copy the pool for the readers.
    forwards = jax.lax.optimization_barrier(forwards)
    for llm, brought, (_, new) in zip(llms, inputs, forwards, strict=True):
        pool = pool_write(
            pool, new.keys, new.values, brought.page_blocks, new.slot_mapping, implementation=llm.implementation
        )
    return pool, tuple(logits for logits, _ in forwards)


def _join(parts: Iterable[Array]) -> Array:
    """One array of the rows of all; one part is itself."""
    first, *others = parts
    return jnp.concatenate([first, *others]) if others else first


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
