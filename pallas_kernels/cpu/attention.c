// Attention of rows of queries over their sequences' past, read in place from the pool, and over their own tokens.
//
// The query heads of one KV head, of all tokens of a block, are rows that share every load of keys and values. A block
// of rows goes once over the tokens it sees, tile by tile, with the online softmax of FlashAttention.

#include <math.h>
#include <stdlib.h>

#include "element.h"
#include "parallel.h"
#include "rows.h"

enum { ELEMENTS_PER_THREAD = 1 << 16 };

struct row_block {
  int32_t sequence, first_row;  // rows are counted from the sequence's first: token * group + head of the group
};

struct attention {
  enum element type, query_type;  // of keys, values and pool; of queries and output
  const char *queries, *keys, *values, *pool;
  char *output;
  const int32_t *page_blocks, *page_table, *starts, *kv_lens;
  int64_t rows, sequences, q_heads, kv_heads, group, lane, token_bytes, blocks, page_tokens, pages, max_pages, window;
  float sm_scale, soft_cap;  // no cap: 0
  struct row_block *row_blocks;
};

// Where the queries, or the output, of a row of sequence and KV head lie: the index of their first element.
static int64_t row_element(const struct attention *a, int64_t sequence, int64_t kv_head, int64_t row) {
  const int64_t token = a->starts[sequence] + row / a->group, head = kv_head * a->group + row % a->group;
  return (token * a->q_heads + head) * a->lane;
}

// The keys of a token in the pool; its values are as far behind as a page's keys are long.
static const char *past_keys(const struct attention *a, int64_t sequence, int64_t kv_head, int64_t position) {
  const int64_t page = a->page_table[sequence * a->max_pages + position / a->page_tokens];
  const int64_t block = a->page_blocks[page * a->kv_heads + kv_head];
  return a->pool + (2 * block * a->page_tokens + position % a->page_tokens) * a->token_bytes;
}

// Adds the tokens [first, past), from the pool.
static void add_past(const struct attention *a, struct rows *rows, int64_t sequence, int64_t kv_head, int64_t first,
                     int64_t past) {
  const char *keys = first < past ? past_keys(a, sequence, kv_head, first) : NULL, *next_keys;
  for (int64_t position = first, count; position < past; position += count, keys = next_keys) {
    const int64_t left_in_page = a->page_tokens - position % a->page_tokens;
    count = min64(min64(tile_tokens(a->lane), left_in_page), past - position);
    next_keys = position + count < past ? past_keys(a, sequence, kv_head, position + count) : NULL;
    const char *values = keys + a->page_tokens * a->token_bytes;
    add_tile(rows, (struct tile){keys, values, next_keys, a->token_bytes, a->type, (int)count, position});
  }
}

// Adds the rows' sequence's own tokens, as far as the last of the rows sees them.
static void add_own(const struct attention *a, struct rows *rows, int64_t sequence, int64_t kv_head, int64_t first,
                    int64_t past) {
  const int64_t end = rows->position[rows->count - 1] + 1, stride = a->kv_heads * a->token_bytes;
  for (int64_t position = max64(first, past), count; position < end; position += count) {
    count = min64(tile_tokens(a->lane), end - position);
    const int64_t offset = (a->starts[sequence] + position - past) * stride + kv_head * a->token_bytes;
    const char *keys = a->keys + offset, *values = a->values + offset;
    add_tile(rows, (struct tile){keys, values, NULL, stride, a->type, (int)count, position});
  }
}

static void begin_rows(const struct attention *a, struct rows *rows, struct row_block block, int64_t kv_head) {
  const int64_t tokens = a->starts[block.sequence + 1] - a->starts[block.sequence];
  rows->count = (int)min64(block_rows(a->lane), tokens * a->group - block.first_row);
  rows->lane = a->lane;
  rows->window = a->window;
  rows->soft_cap = a->soft_cap;
  for (int r = 0; r < rows->count; r++) {
    const int64_t element = row_element(a, block.sequence, kv_head, block.first_row + r);
    rows->position[r] = a->kv_lens[block.sequence] - tokens + (block.first_row + r) / a->group;
    rows->peak[r] = -INFINITY;
    rows->total[r] = splat(0);
    for (int64_t d = 0; d < a->lane; d += LANES) {
      store(rows->queries, r * a->lane + d, FLOAT32, load(a->queries, element + d, a->query_type) * a->sm_scale);
      store(rows->weighted, r * a->lane + d, FLOAT32, splat(0));
    }
  }
}

static void finish_rows(const struct attention *a, struct rows *rows, struct row_block block, int64_t kv_head) {
  for (int r = 0; r < rows->count; r++) {
    const int64_t element = row_element(a, block.sequence, kv_head, block.first_row + r);
    const float total = sum_lanes(rows->total[r]);
    for (int64_t d = 0; d < a->lane; d += LANES)
      store(a->output, element + d, a->query_type, load(rows->weighted, r * a->lane + d, FLOAT32) / total);
  }
}

// One item is one block of rows with one KV head.
static void attend(const void *shared, int64_t item) {
  const struct attention *a = shared;
  const struct row_block block = a->row_blocks[item / a->kv_heads];
  const int64_t kv_head = item % a->kv_heads;
  struct rows rows;
  begin_rows(a, &rows, block, kv_head);
  const int64_t past = a->kv_lens[block.sequence] - (a->starts[block.sequence + 1] - a->starts[block.sequence]);
  const int64_t first = max64(rows.position[0] - a->window + 1, 0);
  add_past(a, &rows, block.sequence, kv_head, first, past);
  add_own(a, &rows, block.sequence, kv_head, first, past);
  finish_rows(a, &rows, block, kv_head);
}

// Everything that a wrong table could make the kernel read is checked before it runs.
static XLA_FFI_Error *check_sequence(const XLA_FFI_CallFrame *frame, const struct attention *a, int64_t sequence) {
  const int64_t start = a->starts[sequence], end = a->starts[sequence + 1], kv_len = a->kv_lens[sequence];
  if (start > end || start < 0 || end > a->rows)
    return invalid(frame, "attention: query_start_loc of sequence %d is %d to %d, of %d rows", (int)sequence,
                   (int)start, (int)end, (int)a->rows);
  if (kv_len == 0) return NULL;
  const int64_t past = kv_len - (end - start), pages = (past + a->page_tokens - 1) / a->page_tokens;
  if (past < 0 || pages > a->max_pages)
    return invalid(frame, "attention: kv_lens[%d] = %d with %d new tokens does not fit a page table of %d pages of %d",
                   (int)sequence, (int)kv_len, (int)(end - start), (int)a->max_pages, (int)a->page_tokens);
  for (int64_t i = max64(past - a->window + 1, 0) / a->page_tokens; i < pages; i++) {
    const int64_t page = a->page_table[sequence * a->max_pages + i];
    if (page < 0 || page >= a->pages)
      return invalid(frame, "attention: page_table[%d, %d] = %d is not in 0..%d", (int)sequence, (int)i, (int)page,
                     (int)a->pages - 1);
    for (int64_t head = 0; head < a->kv_heads; head++) {
      const int64_t block = a->page_blocks[page * a->kv_heads + head];
      if (block < 0 || block >= a->blocks)
        return invalid(frame, "attention: page_blocks[%d, %d] = %d is not in 0..%d", (int)page, (int)head, (int)block,
                       (int)a->blocks - 1);
    }
  }
  return NULL;
}

// Zero for the rows that no sequence has and for those of padding sequences, of length 0.
static void clear_padding(const struct attention *a) {
  const int64_t row_bytes = a->q_heads * a->lane * (int64_t)element_bytes(a->query_type);
  for (int64_t s = 0; s <= a->sequences; s++) {
    int64_t start = a->starts[s], end = s < a->sequences ? a->starts[s + 1] : a->rows;
    if (s == a->sequences || a->kv_lens[s] == 0)
      memset(a->output + start * row_bytes, 0, (size_t)((end - start) * row_bytes));
  }
}

// Cuts all rows into blocks, the last ones first: later rows see more, and long items should not come last.
static int64_t cut_rows(struct attention *a) {
  const int64_t size = block_rows(a->lane);
  int64_t blocks = 0;
  for (int64_t s = a->sequences - 1; s >= 0; s--) {
    const int64_t rows = a->kv_lens[s] == 0 ? 0 : (a->starts[s + 1] - a->starts[s]) * a->group;
    for (int64_t block = (rows + size - 1) / size - 1; block >= 0; block--) {
      a->row_blocks[blocks++] = (struct row_block){(int32_t)s, (int32_t)(block * size)};
    }
  }
  return blocks;
}

// The arguments' shapes are those of ragged_prefill, padded to the pool's lane.
static XLA_FFI_Error *read_arguments(const XLA_FFI_CallFrame *frame, struct attention *a) {
  if (frame->args.size != 8 || frame->rets.size != 1) return invalid(frame, "attention: takes 8 arguments");
  const XLA_FFI_Buffer *queries = argument(frame, 0), *keys = argument(frame, 1), *pool = argument(frame, 3);
  const XLA_FFI_Buffer *page_blocks = argument(frame, 4), *page_table = argument(frame, 5);
  *a = (struct attention){
      .queries = queries->data,
      .keys = keys->data,
      .values = argument(frame, 2)->data,
      .pool = pool->data,
      .output = result(frame, 0)->data,
      .page_blocks = page_blocks->data,
      .page_table = page_table->data,
      .starts = argument(frame, 6)->data,
      .kv_lens = argument(frame, 7)->data,
      .rows = queries->dims[0],
      .sequences = page_table->dims[0],
      .q_heads = queries->dims[1],
      .kv_heads = keys->dims[1],
      .group = queries->dims[1] / keys->dims[1],
      .lane = pool->dims[3],
      .blocks = pool->dims[0],
      .page_tokens = pool->dims[2],
      .pages = page_blocks->dims[0],
      .max_pages = page_table->dims[1],
      .window = int_attribute(frame, "sliding_window"),
      .sm_scale = float_attribute(frame, "sm_scale"),
      .soft_cap = float_attribute(frame, "soft_cap"),
  };
  if (!read_element(pool->dtype, &a->type) || !read_element(queries->dtype, &a->query_type) ||
      keys->dtype != pool->dtype || a->lane % LANES != 0 || a->lane > MAX_LANE || a->window < 1)
    return invalid(frame, "attention: these dtypes, head sizes or options are not supported");
  a->token_bytes = a->lane * (int64_t)element_bytes(a->type);
  return NULL;
}

// How many threads are worth waking: one for each so many elements of keys that are read.
static int64_t worthwhile_threads(const struct attention *a) {
  const int64_t size = block_rows(a->lane);
  int64_t elements = 0;
  for (int64_t s = 0; s < a->sequences; s++) {
    const int64_t blocks = ((a->starts[s + 1] - a->starts[s]) * a->group + size - 1) / size;
    elements += blocks * a->kv_heads * a->lane * min64(a->kv_lens[s], a->window + a->starts[s + 1] - a->starts[s]);
  }
  return elements / ELEMENTS_PER_THREAD;
}

XLA_FFI_Error *muxjax_attention(XLA_FFI_CallFrame *frame) {
  if (is_metadata_query(frame)) return answer_metadata_query(frame);
  struct attention a;
  XLA_FFI_Error *error = read_arguments(frame, &a);
  if (error == NULL && a.starts[0] != 0) error = invalid(frame, "attention: query_start_loc[0] must be 0");
  for (int64_t s = 0; s < a.sequences && error == NULL; s++) error = check_sequence(frame, &a, s);
  if (error != NULL) return error;
  a.row_blocks = malloc((size_t)(a.sequences + a.rows * a.group) * sizeof *a.row_blocks);
  if (a.row_blocks == NULL) return invalid(frame, "attention: out of memory");
  clear_padding(&a);
  const int64_t items = cut_rows(&a) * a.kv_heads;
  parallel_for(frame, items, worthwhile_threads(&a), attend, &a);
  free(a.row_blocks);
  return NULL;
}
