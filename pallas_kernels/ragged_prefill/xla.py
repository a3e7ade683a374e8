"""ragged_prefill in plain JAX: loops over sequences, their blocks of rows, and the tiles each block sees."""

from dataclasses import dataclass

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from muxjax.pallas_kernels.online_softmax import OnlineSoftmax, attention_scores

ROWS_PER_BLOCK = 128
Scalar = Int[Array, ""]


def ragged_prefill_xla(
    queries: Float[Array, "rows q_heads lane"],
    keys: Float[Array, "rows kv_heads lane"],
    values: Float[Array, "rows kv_heads lane"],
    pool: Float[Array, "blocks 2 page_tokens lane"],
    page_blocks: Int[Array, "pages kv_heads"],
    page_table: Int[Array, "seqs max_pages"],
    query_start_loc: Int[Array, " seqs_plus_1"],
    kv_lens: Int[Array, " seqs"],
    *,
    sm_scale: float,
    sliding_window: int | None,
    soft_cap: float | None,
) -> Float[Array, "rows q_heads lane"]:
    """See `ragged_prefill`; every loop ends with the sequence's own length, and tiles keep memory constant."""
    rows, seqs = queries.shape[0], kv_lens.shape[0]
    block = min(rows, ROWS_PER_BLOCK)
    # A block of zero rows at the end, so that no slice is shifted back to fit in.
    queries, keys, values = (jnp.pad(x, ((0, block), (0, 0), (0, 0))) for x in (queries, keys, values))
    chunk = _Chunk(queries, keys, values, block, pool, page_blocks, sm_scale, sliding_window, soft_cap)

    def attend_sequence(
        seq: Scalar, output: Float[Array, "padded q_heads lane"]
    ) -> Float[Array, "padded q_heads lane"]:
        start, length = query_start_loc[seq], query_start_loc[seq + 1] - query_start_loc[seq]

        def attend_block(
            index: Scalar, output: Float[Array, "padded q_heads lane"]
        ) -> Float[Array, "padded q_heads lane"]:
            attention = chunk.attend_block(page_table[seq], start, kv_lens[seq] - length, kv_lens[seq], index)
            first_row = start + index * block
            own_rows = (jnp.arange(block) < length - index * block)[:, None, None]
            merged = jnp.where(own_rows, attention, lax.dynamic_slice_in_dim(output, first_row, block))
            return lax.dynamic_update_slice_in_dim(output, merged.astype(output.dtype), first_row, axis=0)

        return lax.fori_loop(0, (length + block - 1) // block, attend_block, output)

    return lax.fori_loop(0, seqs, attend_sequence, jnp.zeros_like(queries))[:rows]


@dataclass(frozen=True, slots=True)
class _Chunk:
    """The inputs that all blocks of rows share."""

    queries: Float[Array, "padded q_heads lane"]
    keys: Float[Array, "padded kv_heads lane"]
    values: Float[Array, "padded kv_heads lane"]
    block: int
    pool: Float[Array, "blocks 2 page_tokens lane"]
    page_blocks: Int[Array, "pages kv_heads"]
    sm_scale: float
    sliding_window: int | None
    soft_cap: float | None

    def attend_block(
        self, pages: Int[Array, " max_pages"], start: Scalar, past: Scalar, kv_len: Scalar, index: Scalar
    ) -> Float[Array, "block q_heads lane"]:
        """Attention of one sequence's block of rows; the sequence's rows start at `start`, its past is in `pages`."""
        block, page_tokens = self.block, self.pool.shape[2]
        kv_heads, q_heads, lane = self.keys.shape[1], *self.queries.shape[1:]
        # The query heads of a group, one below the other, are the rows of one product with their KV head.
        queries = self._heads_first(self.queries, start + index * block).reshape(kv_heads, -1, lane)
        last_seen = jnp.tile(past + index * block + jnp.arange(block), q_heads // kv_heads)[:, None]
        first_seen = jnp.zeros_like(last_seen) if self.sliding_window is None else last_seen + 1 - self.sliding_window
        lowest = jnp.maximum(first_seen[0, 0], 0)

        def add_page(page: Scalar, state: OnlineSoftmax) -> OnlineSoftmax:
            tile = self.pool[self.page_blocks[pages[page]]].astype(jnp.float32)  # [kv_heads, 2, page_tokens, lane]
            positions = page * page_tokens + jnp.arange(page_tokens)
            visible = (positions >= first_seen) & (positions < past)
            scores = attention_scores(queries, tile[:, 0], self.sm_scale, self.soft_cap)
            return state.add(scores, visible, tile[:, 1])

        def add_own(own: Scalar, state: OnlineSoftmax) -> OnlineSoftmax:
            tile_keys, tile_values = (self._heads_first(x, start + own * block) for x in (self.keys, self.values))
            positions = past + own * block + jnp.arange(block)
            visible = (positions >= first_seen) & (positions <= last_seen) & (positions < kv_len)
            scores = attention_scores(queries, tile_keys, self.sm_scale, self.soft_cap)
            return state.add(scores, visible, tile_values)

        state = OnlineSoftmax.empty(*queries.shape)
        state = lax.fori_loop(lowest // page_tokens, (past + page_tokens - 1) // page_tokens, add_page, state)
        state = lax.fori_loop(jnp.maximum(lowest - past, 0) // block, index + 1, add_own, state)
        return state.attention().reshape(q_heads, block, lane).swapaxes(0, 1)

    def _heads_first(self, rows: Float[Array, "padded heads lane"], start: Scalar) -> Float[Array, "heads block lane"]:
        return lax.dynamic_slice_in_dim(rows, start, self.block).astype(jnp.float32).swapaxes(0, 1)
