// Rows times a matrix of int8 weights, one of a stack. A panel of weights after the other becomes float32 in the nearest cache and is
// multiplied with all rows there, so that a weight is read and converted once, however many rows there are.

#include "element.h"
#include "parallel.h"

enum {
  ROWS = 32,                       // that are multiplied with a panel
  COLUMNS = 128,                   // of a panel; with fewer of them, memory is read in too short runs
  CHANNELS = 32,                   // of a panel: the rows of the matrix in it
  SUMS = LANES == 16 ? 16 : 8,     // vectors of sums that fit in registers
  PRODUCTS_PER_THREAD = 1 << 17,
};

struct int8_matmul {
  enum element row_type, output_type;
  const char *rows;
  const int8_t *weights;
  const float *scales;
  char *output;
  int64_t count, inner, columns;
};

struct panel {
  float rows[ROWS][CHANNELS], weights[CHANNELS][COLUMNS], sums[ROWS][COLUMNS];
};

// Loads the first `count` of LANES elements; the others are zero.
INLINE vec load_some(const void *elements, ptrdiff_t index, int64_t count, enum element type) {
  if (count == LANES) return load(elements, index, type);
  const size_t size = element_bytes(type);
  char bytes[sizeof(vec)] = {0};
  memcpy(bytes, (const char *)elements + index * (ptrdiff_t)size, (size_t)count * size);
  return load(bytes, 0, type);
}

static void take_rows(struct panel *panel, const struct int8_matmul *m, int64_t first, int64_t count, int64_t channel,
                      int64_t channels) {
  for (int64_t row = 0; row < count; row++) {
    const int64_t index = (first + row) * m->inner + channel;
    for (int64_t i = 0; i < channels; i += LANES)
      store(panel->rows[row], i, FLOAT32, load_some(m->rows, index + i, min64(LANES, channels - i), m->row_type));
  }
}

static void take_weights(struct panel *panel, const struct int8_matmul *m, int64_t channel, int64_t channels,
                         int64_t column, int64_t columns) {
  for (int64_t i = 0; i < channels; i++) {
    const int8_t *weights = m->weights + (channel + i) * m->columns + column;
    // The next panel's, for the hardware does not guess that they are wanted: their rows lie far apart.
    for (int64_t c = 0; c < COLUMNS; c += 64) __builtin_prefetch(weights + CHANNELS * m->columns + c, 0, 3);
    int64_t c = 0;
    for (; c + LANES <= columns; c += LANES) store(panel->weights[i], c, FLOAT32, load_int8(weights + c));
    if (c == columns) continue;
    int8_t rest[LANES] = {0};
    memcpy(rest, weights + c, (size_t)(columns - c));
    store(panel->weights[i], c, FLOAT32, load_int8(rest));
  }
}

// Adds the products of R rows, from `first` on, with the panel's weights to their sums; J vectors are done at a time.
INLINE void add_products(const int R, const int J, struct panel *panel, int64_t first, int64_t channels) {
  for (int column = 0; column < COLUMNS; column += J * LANES) {
    vec sums[R][J];
#pragma GCC unroll 4
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
      for (int j = 0; j < J; j++) sums[r][j] = load(panel->sums[first + r], column + j * LANES, FLOAT32);
    for (int64_t i = 0; i < channels; i++)
#pragma GCC unroll 8
      for (int j = 0; j < J; j++) {
        const vec weights = load(panel->weights[i], column + j * LANES, FLOAT32);
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) sums[r][j] += panel->rows[first + r][i] * weights;
      }
#pragma GCC unroll 4
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
      for (int j = 0; j < J; j++) store(panel->sums[first + r], column + j * LANES, FLOAT32, sums[r][j]);
  }
}

static void give_products(const struct panel *panel, const struct int8_matmul *m, int64_t first, int64_t count,
                          int64_t column, int64_t columns) {
  const size_t size = element_bytes(m->output_type);
  for (int64_t row = 0; row < count; row++) {
    char products[COLUMNS * sizeof(float)];
    for (int64_t c = 0; c < columns; c += LANES) {
      const vec scales = load_some(m->scales, column + c, min64(LANES, columns - c), FLOAT32);
      store(products, c, m->output_type, load(panel->sums[row], c, FLOAT32) * scales);
    }
    memcpy(m->output + ((first + row) * m->columns + column) * (int64_t)size, products, (size_t)columns * size);
  }
}

// One item is COLUMNS columns of ROWS rows; all rows of some columns come one after the other.
static void multiply(const void *shared, int64_t item) {
  const struct int8_matmul *m = shared;
  const int64_t blocks = (m->count + ROWS - 1) / ROWS;
  const int64_t first = item % blocks * ROWS, count = min64(ROWS, m->count - first);
  const int64_t column = item / blocks * COLUMNS, columns = min64(COLUMNS, m->columns - column);
  struct panel panel;
  memset(panel.sums, 0, (size_t)count * sizeof panel.sums[0]);
  if (columns < COLUMNS) memset(panel.weights, 0, sizeof panel.weights);
  for (int64_t channel = 0; channel < m->inner; channel += CHANNELS) {
    const int64_t channels = min64(CHANNELS, m->inner - channel);
    take_rows(&panel, m, first, count, channel, channels);
    take_weights(&panel, m, channel, channels, column, columns);
    int64_t row = 0;
    for (; row + 4 <= count; row += 4) add_products(4, SUMS / 4, &panel, row, channels);
    for (; row + 2 <= count; row += 2) add_products(2, SUMS / 2, &panel, row, channels);
    for (; row < count; row++) add_products(1, 8, &panel, row, channels);
  }
  give_products(&panel, m, first, count, column, columns);
}

XLA_FFI_Error *muxjax_int8_matmul(XLA_FFI_CallFrame *frame) {
  if (is_metadata_query(frame)) return answer_metadata_query(frame);
  if (frame->args.size != 4 || frame->rets.size != 1) return invalid(frame, "int8_matmul: takes 4 arguments");
  const XLA_FFI_Buffer *rows = argument(frame, 0), *weights = argument(frame, 1), *scales = argument(frame, 2);
  const XLA_FFI_Buffer *output = result(frame, 0);
  const int64_t inner = weights->dims[1], columns = weights->dims[2];
  const int32_t group = *(const int32_t *)argument(frame, 3)->data;
  if (group < 0 || group >= weights->dims[0])
    return invalid(frame, "int8_matmul: group %d is not in 0..%d", (int)group, (int)weights->dims[0] - 1);
  struct int8_matmul m = {
      .rows = rows->data,
      .weights = (const int8_t *)weights->data + group * inner * columns,
      .scales = (const float *)scales->data + group * columns,
      .output = output->data,
      .count = rows->dims[0],
      .inner = inner,
      .columns = columns,
  };
  if (!read_element(rows->dtype, &m.row_type) || !read_element(output->dtype, &m.output_type) ||
      weights->dtype != XLA_FFI_DataType_S8 || scales->dtype != XLA_FFI_DataType_F32)
    return invalid(frame, "int8_matmul: these dtypes are not supported");
  const int64_t items = (m.count + ROWS - 1) / ROWS * ((m.columns + COLUMNS - 1) / COLUMNS);
  parallel_for(frame, items, m.count * m.inner * m.columns / PRODUCTS_PER_THREAD, multiply, &m);
  return NULL;
}
