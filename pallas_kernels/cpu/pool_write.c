// Copies new keys and values to their slots in the pool.

#include <string.h>

#include "parallel.h"

enum { BYTES_PER_THREAD = 1 << 18 };

struct pool_write {
  char *pool;
  const char *keys, *values;
  const int32_t *page_blocks, *slots;
  int64_t layers, rows, kv_heads, pages, page_tokens, token_bytes, lane_bytes;
};

static void copy_token(char *slot, const char *token, const struct pool_write *w) {
  memcpy(slot, token, (size_t)w->token_bytes);
  memset(slot + w->token_bytes, 0, (size_t)(w->lane_bytes - w->token_bytes));
}

// One item is one token in one layer.
static void write_token(const void *shared, int64_t item) {
  const struct pool_write *w = shared;
  const int64_t layer = item / w->rows, slot = w->slots[item % w->rows];
  if (slot < 0) return;
  const int32_t *blocks = w->page_blocks + (layer * w->pages + slot / w->page_tokens) * w->kv_heads;
  for (int64_t head = 0; head < w->kv_heads; head++) {
    char *key = w->pool + (2 * blocks[head] * w->page_tokens + slot % w->page_tokens) * w->lane_bytes;
    const int64_t source = (item * w->kv_heads + head) * w->token_bytes;
    copy_token(key, w->keys + source, w);
    copy_token(key + w->page_tokens * w->lane_bytes, w->values + source, w);
  }
}

// Checks the tables before anything is written.
static XLA_FFI_Error *check_slots(const XLA_FFI_CallFrame *frame, const struct pool_write *w, int64_t pool_blocks) {
  for (int64_t row = 0; row < w->rows; row++) {
    const int64_t slot = w->slots[row], page = slot / w->page_tokens;
    if (slot < 0) continue;
    if (page >= w->pages)
      return invalid(frame, "pool_write: slot_mapping[%d] = %d is past the last of %d pages of %d", (int)row, (int)slot,
                     (int)w->pages, (int)w->page_tokens);
    for (int64_t layer = 0; layer < w->layers; layer++)
      for (int64_t head = 0; head < w->kv_heads; head++) {
        const int64_t block = w->page_blocks[(layer * w->pages + page) * w->kv_heads + head];
        if (block < 0 || block >= pool_blocks)
          return invalid(frame, "pool_write: page_blocks[%d, %d, %d] = %d is not in 0..%d", (int)layer, (int)page,
                         (int)head, (int)block, (int)pool_blocks - 1);
      }
  }
  return NULL;
}

static int64_t element_size(XLA_FFI_DataType dtype) {
  switch (dtype) {
    case XLA_FFI_DataType_F32: return 4;
    case XLA_FFI_DataType_BF16:
    case XLA_FFI_DataType_F16: return 2;
    default: return 0;
  }
}

// Elements that a token of this head size takes in a block: the next power of two.
static int64_t lane_of(int64_t dim) {
  int64_t lane = 1;
  while (lane < dim) lane *= 2;
  return lane;
}

XLA_FFI_Error *muxjax_pool_write(XLA_FFI_CallFrame *frame) {
  if (is_metadata_query(frame)) return answer_metadata_query(frame);
  if (frame->args.size != 5 || frame->rets.size != 1) return invalid(frame, "pool_write: takes 5 arguments");
  const XLA_FFI_Buffer *pool = argument(frame, 0), *keys = argument(frame, 1);
  const int64_t element = element_size(pool->dtype), lane = lane_of(keys->dims[3]);
  const struct pool_write w = {
      .pool = result(frame, 0)->data,
      .keys = keys->data,
      .values = argument(frame, 2)->data,
      .page_blocks = argument(frame, 3)->data,
      .slots = argument(frame, 4)->data,
      .layers = keys->dims[0],
      .rows = keys->dims[1],
      .kv_heads = keys->dims[2],
      .pages = argument(frame, 3)->dims[1],
      .page_tokens = pool->dims[2] * pool->dims[3] / lane,
      .token_bytes = keys->dims[3] * element,
      .lane_bytes = lane * element,
  };
  if (w.pool != pool->data) return invalid(frame, "pool_write: the result must be the pool itself");
  if (element == 0 || keys->dtype != pool->dtype) return invalid(frame, "pool_write: these dtypes are not supported");
  XLA_FFI_Error *error = check_slots(frame, &w, pool->dims[0]);
  if (error != NULL) return error;
  const int64_t items = w.layers * w.rows;
  parallel_for(frame, items, 2 * items * w.kv_heads * w.lane_bytes / BYTES_PER_THREAD, write_token, &w);
  return NULL;
}
