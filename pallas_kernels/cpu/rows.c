#include "rows.h"

#include <math.h>

// scores[r][t] = queries[r] . keys[t] for the R rows from `queries` on; R and type are known at compile time.
INLINE void score(const int R, const enum element type, const float *queries, int64_t lane, const char *keys,
                  ptrdiff_t stride, int count, float scores[][TILE_TOKENS]) {
  const int T = LANES / R;  // tokens at a time
  for (int first = 0; first < count; first += T) {
    const char *token[LANES];
#pragma GCC unroll 16
    for (int t = 0; t < T; t++) token[t] = keys + stride * (first + t < count ? first + t : count - 1);
    vec sums[LANES] = {0};
    for (int64_t d = 0; d < lane; d += LANES) {
#pragma GCC unroll 16
      for (int t = 0; t < T; t++) {
        vec key = load(token[t], d, type);
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) sums[r * T + t] += load(queries + r * lane, d, FLOAT32) * key;
      }
    }
    vec sum = sum_each(sums);
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) memcpy(&scores[r][first], (const float *)&sum + r * T, (size_t)T * sizeof(float));
  }
}

// Turns one row's scores into weights exp(score - peak), zero outside [low, high), and brings peak and total up to
// date. Returns the factor for what was summed with the old peak.
static float weigh(struct rows *rows, int r, float *scores, int count, int low, int high) {
  ivec lane_index = {EACH_LANE(BLEND, 0)};
  vec peaks = splat(-INFINITY);
  for (int t = 0; t < count; t += LANES) {
    vec value = load(scores, t, FLOAT32);
    if (rows->soft_cap > 0) value = rows->soft_cap * tanh_vec(value / rows->soft_cap);
    ivec index = lane_index + t;
    value = where((index >= low) & (index < high), value, splat(-INFINITY));
    peaks = where(value > peaks, value, peaks);
    store(scores, t, FLOAT32, value);
  }
  float peak = fmaxf(rows->peak[r], max_lanes(peaks));
  float shift = peak == -INFINITY ? 0 : peak;  // no token seen so far: -inf - -inf would be NaN
  vec sums = {0};
  for (int t = 0; t < count; t += LANES) {
    vec weight = exp_nonpositive(load(scores, t, FLOAT32) - shift);
    sums += weight;
    store(scores, t, FLOAT32, weight);
  }
  float decay = exp_nonpositive(splat(rows->peak[r] - shift))[0];
  rows->peak[r] = peak;
  rows->total[r] = rows->total[r] * decay + sum_lanes(sums);
  return decay;
}

// weighted[r] = weighted[r] * decay[r] + sum over t of weights[r][t] * values[t], for R rows and J vectors at a time.
INLINE void accumulate(const int R, const int J, const enum element type, float weights[][TILE_TOKENS],
                       const float *decay, const char *values, ptrdiff_t stride, int count, float *weighted,
                       int64_t lane) {
  for (int64_t d = 0; d < lane; d += J * LANES) {
    vec sums[4][4];
#pragma GCC unroll 4
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
      for (int j = 0; j < J; j++) sums[r][j] = load(weighted + r * lane, d + j * LANES, FLOAT32) * decay[r];
    for (int t = 0; t < count; t++) {
#pragma GCC unroll 4
      for (int j = 0; j < J; j++) {
        vec value = load(values + stride * t, d + j * LANES, type);
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) sums[r][j] += weights[r][t] * value;
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
      for (int j = 0; j < J; j++) store(weighted + r * lane, d + j * LANES, FLOAT32, sums[r][j]);
  }
}

// Adds to R rows, from `first` on, the tokens of a tile that they see.
INLINE void add_to_rows(const int R, const enum element type, struct rows *rows, int first, const struct tile *tile) {
  const int64_t lane = rows->lane, last_seen = rows->position[first + R - 1] - tile->position;
  const int64_t first_seen = max64(rows->position[first] - rows->window + 1 - tile->position, 0);
  const int count = (int)(min64(last_seen + 1, tile->count) - first_seen);
  if (count <= 0) return;
  const char *keys = tile->keys + tile->stride * first_seen, *values = tile->values + tile->stride * first_seen;
  float scores[4][TILE_TOKENS], decay[4];
  score(R, type, rows->queries + first * lane, lane, keys, tile->stride, count, scores);
  for (int r = 0; r < R; r++) {
    int64_t own = rows->position[first + r] - tile->position - first_seen;
    int low = (int)max64(own - rows->window + 1, 0), high = (int)max64(min64(own + 1, count), 0);
    decay[r] = weigh(rows, first + r, scores[r], count, low, high);
  }
  float *weighted = rows->weighted + first * lane;
  if (lane % (4 * LANES) == 0) {
    accumulate(R, 4, type, scores, decay, values, tile->stride, count, weighted, lane);
  } else if (lane % (2 * LANES) == 0) {
    accumulate(R, 2, type, scores, decay, values, tile->stride, count, weighted, lane);
  } else {
    accumulate(R, 1, type, scores, decay, values, tile->stride, count, weighted, lane);
  }
}

INLINE void add_to_all_rows(const enum element type, struct rows *rows, const struct tile *tile) {
  int row = 0;
  for (; row + 4 <= rows->count; row += 4) add_to_rows(4, type, rows, row, tile);
  for (; row + 2 <= rows->count; row += 2) add_to_rows(2, type, rows, row, tile);
  for (; row < rows->count; row++) add_to_rows(1, type, rows, row, tile);
}

static void convert(const char *tokens, const struct tile *tile, int64_t lane, float *converted) {
  for (int t = 0; t < tile->count; t++)
    for (int64_t d = 0; d < lane; d += LANES)
      store(converted + t * lane, d, FLOAT32, load(tokens + tile->stride * t, d, tile->type));
}

void add_tile(struct rows *rows, struct tile tile) {
  if (rows->count > 4 && tile.type != FLOAT32) {  // else it would be converted again for every four rows
    convert(tile.keys, &tile, rows->lane, rows->keys);
    convert(tile.values, &tile, rows->lane, rows->values);
    tile.keys = (const char *)rows->keys;
    tile.values = (const char *)rows->values;
    tile.stride = rows->lane * (ptrdiff_t)sizeof(float);
    tile.type = FLOAT32;
  }
  switch (tile.type) {
    case FLOAT32: add_to_all_rows(FLOAT32, rows, &tile); break;
    case BFLOAT16: add_to_all_rows(BFLOAT16, rows, &tile); break;
    case FLOAT16: add_to_all_rows(FLOAT16, rows, &tile); break;
  }
}
