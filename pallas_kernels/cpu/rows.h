// A block of rows of queries on its way through its tokens, tile by tile: the online softmax of FlashAttention
// (Dao et al. 2022, Alg. 1).
#ifndef MUXJAX_ROWS_H
#define MUXJAX_ROWS_H

#include "vector.h"

enum {
  TILE_TOKENS = 64,
  BLOCK_ROWS = 64,
  TILE_ELEMENTS = 4096,  // of keys, of values, of queries: 16 KiB each, so that a block works in the first-level cache
};

// Some tokens of one sequence and KV head; the first one's position is `position`.
struct tile {
  const char *keys, *values;
  enum element type;
  ptrdiff_t stride;  // bytes from token to token
  int64_t position;
  int count;
};

// A block of rows on its way through the tokens; `position` is a row's own, the last one it sees.
struct rows {
  int count;
  int64_t lane, window;
  float soft_cap;
  int64_t position[BLOCK_ROWS];
  float peak[BLOCK_ROWS], total[BLOCK_ROWS];
  float queries[TILE_ELEMENTS] __attribute__((aligned(64)));   // [count, lane], scaled
  float weighted[TILE_ELEMENTS] __attribute__((aligned(64)));  // [count, lane]
  float keys[TILE_ELEMENTS] __attribute__((aligned(64)));      // a tile as float32
  float values[TILE_ELEMENTS] __attribute__((aligned(64)));
};

static inline int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

// Adds the tokens of a tile to the rows that see them.
void add_tile(struct rows *rows, struct tile tile);

#endif
