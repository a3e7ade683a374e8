#include "rows.h"

#include <math.h>
#include <stdbool.h>

// FEW rows work on keys and values where they are; for more of them a tile is first laid out for the vector units.
enum { FEW = 4, SCORES = TILE_TOKENS + LANES };

// Asks for a line of memory ahead of its use, at the first of the vectors in it: blocks lie scattered, so the hardware
// cannot guess which one is next.
INLINE void fetch(const char *bytes, int64_t element, const enum element type) {
  const int64_t offset = element * (int64_t)element_bytes(type);
  if (offset % 64 == 0) __builtin_prefetch(bytes + offset, 0, 2);
}

// scores[r][t] = queries[r] . keys[t] for R rows and the tokens in [from, to). Fetches the same tokens' values.
INLINE void score(const int R, const struct tile *tile, const enum element type, const float *queries, int64_t lane,
                  int from, int to, float scores[][SCORES]) {
  const int T = LANES / R;  // tokens at a time
  for (int first = from; first < to; first += T) {
    const char *token[LANES];
#pragma GCC unroll 16
    for (int t = 0; t < T; t++) token[t] = tile->keys + tile->stride * (first + t < to ? first + t : to - 1);
    vec sums[LANES] = {0};
    for (int64_t d = 0; d < lane; d += LANES) {
#pragma GCC unroll 16
      for (int t = 0; t < T; t++) {
        fetch(tile->values + (token[t] - tile->keys), d, type);
        const vec key = load(token[t], d, type);
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) sums[r * T + t] += load(queries + r * lane, d, FLOAT32) * key;
      }
    }
    const vec sum = sum_each(sums);
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) memcpy(&scores[r][first], (const float *)&sum + r * T, (size_t)T * sizeof(float));
  }
}

struct matrix {
  const void *elements;
  ptrdiff_t stride;  // bytes from row to row
};

INLINE const void *row(struct matrix matrix, ptrdiff_t index) {
  return (const char *)matrix.elements + matrix.stride * index;
}

// Adds left[r][k] * right[k] for k in [from, to) to out[r] * factor[r], or to 0 without factor, for R rows; J vectors of
// a row are done at a time. Fetches the rows from `ahead` on meanwhile, when there is one.
INLINE void multiply_vectors(const int R, const int J, const enum element type, struct matrix left, struct matrix right,
                             int from, int to, const float *factor, float *out, int64_t out_stride, int64_t width,
                             const char *ahead) {
  for (int64_t d = 0; d < width; d += J * LANES) {
    vec sums[FEW][4];
#pragma GCC unroll 4
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
      for (int j = 0; j < J; j++)
        sums[r][j] = factor ? load(out + r * out_stride, d + j * LANES, FLOAT32) * factor[r] : splat(0);
    for (int k = from; k < to; k++) {
#pragma GCC unroll 4
      for (int j = 0; j < J; j++) {
        if (ahead) fetch(ahead + right.stride * k, d + j * LANES, type);
        const vec value = load(row(right, k), d + j * LANES, type);
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) sums[r][j] += ((const float *)row(left, r))[k] * value;
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
      for (int j = 0; j < J; j++) store(out + r * out_stride, d + j * LANES, FLOAT32, sums[r][j]);
  }
}

INLINE void multiply(const int R, const enum element type, struct matrix left, struct matrix right, int from, int to,
                     const float *factor, float *out, int64_t out_stride, int64_t width, const char *ahead) {
  if (width % (4 * LANES) == 0)
    multiply_vectors(R, 4, type, left, right, from, to, factor, out, out_stride, width, ahead);
  else if (width % (2 * LANES) == 0)
    multiply_vectors(R, 2, type, left, right, from, to, factor, out, out_stride, width, ahead);
  else
    multiply_vectors(R, 1, type, left, right, from, to, factor, out, out_stride, width, ahead);
}

// Turns the scores of tokens [from, to) into weights exp(score - peak), zero where a row does not see the token, and
// brings the rows' peaks and totals up to date. `decay` gets the factors for what was summed with the old peaks.
static void weigh(struct rows *rows, int first, int count, const struct tile *tile, int from, int to,
                  float scores[][SCORES], float *decay) {
  const ivec lane_index = {EACH_LANE(LANE, 0)};
  const int begin = from / LANES * LANES;
  float shift[LANES] = {0}, change[LANES] = {0};
  for (int r = 0; r < count; r++) {
    const int64_t own = rows->position[first + r] - tile->position;
    const int low = (int)max64(own - rows->window + 1, from), high = (int)min64(own + 1, to);
    vec peaks = splat(-INFINITY);
    for (int t = begin; t < to; t += LANES) {
      vec value = load(scores[r], t, FLOAT32);
      if (rows->soft_cap > 0) value = rows->soft_cap * tanh_vec(value / rows->soft_cap);
      if (t < low || t + LANES > high) {
        const ivec index = lane_index + t;
        value = where((index >= low) & (index < high), value, splat(-INFINITY));
      }
      peaks = where(value > peaks, value, peaks);
      store(scores[r], t, FLOAT32, value);
    }
    const float old = rows->peak[first + r], peak = fmaxf(old, max_lanes(peaks));
    shift[r] = peak == -INFINITY ? 0 : peak;  // no token seen so far: -inf - -inf would be NaN
    change[r] = old - shift[r];
    rows->peak[first + r] = peak;
  }
  store(change, 0, FLOAT32, exp_nonpositive(load(change, 0, FLOAT32)));
  for (int r = 0; r < count; r++) {
    vec total = rows->total[first + r] * change[r];
    for (int t = begin; t < to; t += LANES) {
      const vec weight = exp_nonpositive(load(scores[r], t, FLOAT32) - shift[r]);
      total += weight;
      store(scores[r], t, FLOAT32, weight);
    }
    rows->total[first + r] = total;
    decay[r] = change[r];
  }
}

// Adds to R rows, from `first` on, the tokens of a tile that they see; `laid_out` by lay_out.
INLINE void add_to_rows(const int R, const enum element type, const bool laid_out, struct rows *rows, int first,
                        const struct tile *tile) {
  const int64_t lane = rows->lane, width = tile_tokens(lane);
  const int from = (int)max64(rows->position[first] - rows->window + 1 - tile->position, 0);
  const int to = (int)min64(rows->position[first + R - 1] + 1 - tile->position, tile->count);
  if (from >= to) return;
  float scores[FEW][SCORES], decay[FEW];
  const float *queries = (const float *)rows->queries + first * lane;
  if (laid_out) {
    const struct matrix left = {queries, lane * 4}, right = {tile->keys, width * 4};
    multiply(R, FLOAT32, left, right, 0, (int)lane, NULL, scores[0], SCORES, width, NULL);
  } else {
    score(R, tile, type, queries, lane, from, to, scores);
  }
  weigh(rows, first, R, tile, from, to, scores, decay);
  const struct matrix left = {scores, sizeof scores[0]}, right = {tile->values, tile->stride};
  float *weighted = (float *)rows->weighted + first * lane;
  multiply(R, type, left, right, from, to, decay, weighted, lane, lane, laid_out ? NULL : tile->next_keys);
}

INLINE void add_to_all_rows(const enum element type, const bool laid_out, struct rows *rows, const struct tile *tile) {
  int first = 0;
  for (; first + 4 <= rows->count; first += 4) add_to_rows(4, type, laid_out, rows, first, tile);
  for (; first + 2 <= rows->count; first += 2) add_to_rows(2, type, laid_out, rows, first, tile);
  for (; first < rows->count; first++) add_to_rows(1, type, laid_out, rows, first, tile);
}

// Makes a tile's keys float32 with one row per element, and its values float32.
INLINE void lay_out(const enum element type, struct rows *rows, struct tile *tile) {
  const int64_t lane = rows->lane, width = tile_tokens(lane);
  for (int first = 0; first < tile->count; first += LANES)
    for (int64_t d = 0; d < lane; d += LANES) {
      vec block[LANES];
      for (int t = 0; t < LANES; t++) {
        const int token = first + t < tile->count ? first + t : tile->count - 1;
        block[t] = load(tile->keys + tile->stride * token, d, type);
      }
      transpose(block);
      for (int i = 0; i < LANES; i++) store(rows->keys, (d + i) * width + first, FLOAT32, block[i]);
    }
  tile->keys = (const char *)rows->keys;
  if (type == FLOAT32) return;
  for (int t = 0; t < tile->count; t++)
    for (int64_t d = 0; d < lane; d += LANES)
      store(rows->values, t * lane + d, FLOAT32, load(tile->values + tile->stride * t, d, type));
  tile->values = (const char *)rows->values;
  tile->stride = lane * 4;
}

INLINE void add_tile_of(const enum element type, struct rows *rows, struct tile *tile) {
  if (rows->count <= FEW) {
    add_to_all_rows(type, false, rows, tile);
  } else {
    lay_out(type, rows, tile);
    add_to_all_rows(FLOAT32, true, rows, tile);
  }
}

void add_tile(struct rows *rows, struct tile tile) {
  switch (tile.type) {
    case FLOAT32: add_tile_of(FLOAT32, rows, &tile); break;
    case BFLOAT16: add_tile_of(BFLOAT16, rows, &tile); break;
    case FLOAT16: add_tile_of(FLOAT16, rows, &tile); break;
  }
}
