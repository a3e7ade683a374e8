// A block of rows of queries on its way through its tokens, tile by tile: the online softmax of FlashAttention
// (Dao et al. 2022, Alg. 1).
#ifndef MUXJAX_ROWS_H
#define MUXJAX_ROWS_H

#include "vector.h"

enum {
  TILE_TOKENS = 64,
  BLOCK_ROWS = 64,
  TILE_ELEMENTS = 4096,  // of keys, of values, of queries: 16 KiB each, so that a block works in the nearest caches
  MAX_LANE = TILE_ELEMENTS / 16,  // a tile has at least 16 tokens
};

// Some tokens of one sequence and KV head; the first one's position is `position`.
struct tile {
  const char *keys, *values;
  const char *next_keys;  // of the tile that will be read next, to be fetched meanwhile; NULL for none
  ptrdiff_t stride;       // bytes from token to token
  enum element type;
  int count;
  int64_t position;
};

struct rows {
  int count;
  int64_t lane, window;
  float soft_cap;                // 0 for none
  int64_t position[BLOCK_ROWS];  // a row's own, the last one that it sees; not decreasing
  float peak[BLOCK_ROWS];        // the largest score so far
  vec total[BLOCK_ROWS];         // sum of exp(score - peak), still to be summed over the lanes
  vec queries[TILE_ELEMENTS / LANES];   // [count, lane], scaled
  vec weighted[TILE_ELEMENTS / LANES];  // [count, lane]: sum of exp(score - peak) * value
  vec keys[TILE_ELEMENTS / LANES];      // a tile's, as float32: [lane, tokens]
  vec values[TILE_ELEMENTS / LANES];    // [tokens, lane]
};

// How many tokens make a tile, and how many rows a block, for heads of this size.
static inline int64_t tile_tokens(int64_t lane) { return min64(TILE_TOKENS, TILE_ELEMENTS / lane); }
static inline int64_t block_rows(int64_t lane) { return min64(BLOCK_ROWS, TILE_ELEMENTS / lane); }

// Adds the tokens of a tile to the rows that see them.
void add_tile(struct rows *rows, struct tile tile);

#endif
