// Vectors of float32, as wide as the CPU has them, and the conversions and functions that attention needs.
#ifndef MUXJAX_VECTOR_H
#define MUXJAX_VECTOR_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __AVX2__
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

// EACH_LANE(F, h) lists F(lane, h) for all lanes.
#define FOUR_LANES(F, h, i) F(i, h), F((i) + 1, h), F((i) + 2, h), F((i) + 3, h)
#if defined(__AVX512F__)
#define LANES 16
#define EACH_LANE(F, h) FOUR_LANES(F, h, 0), FOUR_LANES(F, h, 4), FOUR_LANES(F, h, 8), FOUR_LANES(F, h, 12)
#elif defined(__AVX2__) && defined(__F16C__)
#define LANES 8
#define EACH_LANE(F, h) FOUR_LANES(F, h, 0), FOUR_LANES(F, h, 4)
#else
#define LANES 4
#define EACH_LANE(F, h) FOUR_LANES(F, h, 0)
#endif

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));
typedef uint32_t uvec __attribute__((vector_size(4 * LANES)));
typedef uint16_t half_vec __attribute__((vector_size(2 * LANES)));

enum element { FLOAT32, BFLOAT16, FLOAT16 };

INLINE size_t element_bytes(enum element type) { return type == FLOAT32 ? 4 : 2; }

INLINE int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

INLINE vec splat(float value) { return value - (vec){0}; }

INLINE vec where(ivec condition, vec yes, vec no) { return (vec)((condition & (ivec)yes) | (~condition & (ivec)no)); }

// Conversions of 16 bits to 32, `widen` of integers and others of float16, and of 8 bits to float32, at any address.
// Compilers do not find the x86 instructions.
#if LANES == 16
INLINE uvec widen(half_vec half) { return (uvec)_mm512_cvtepu16_epi32((__m256i)half); }
INLINE vec half_to_float(half_vec half) { return (vec)_mm512_cvtph_ps((__m256i)half); }
INLINE half_vec float_to_half(vec value) { return (half_vec)_mm512_cvtps_ph((__m512)value, _MM_FROUND_NO_EXC); }
INLINE vec load_int8(const int8_t *values) {
  return (vec)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)values)));
}
#elif LANES == 8
INLINE uvec widen(half_vec half) { return (uvec)_mm256_cvtepu16_epi32((__m128i)half); }
INLINE vec half_to_float(half_vec half) { return (vec)_mm256_cvtph_ps((__m128i)half); }
INLINE half_vec float_to_half(vec value) { return (half_vec)_mm256_cvtps_ph((__m256)value, _MM_FROUND_NO_EXC); }
INLINE vec load_int8(const int8_t *values) {
  return (vec)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)values)));
}
#else
typedef _Float16 float16_vec __attribute__((vector_size(2 * LANES)));
INLINE uvec widen(half_vec half) { return __builtin_convertvector(half, uvec); }
INLINE vec half_to_float(half_vec half) { return __builtin_convertvector((float16_vec)half, vec); }
INLINE half_vec float_to_half(vec value) { return (half_vec)__builtin_convertvector(value, float16_vec); }
typedef int8_t int8_vec __attribute__((vector_size(LANES)));
INLINE vec load_int8(const int8_t *values) {
  int8_vec bytes;
  memcpy(&bytes, values, sizeof bytes);
  return __builtin_convertvector(bytes, vec);
}
#endif

// Loads LANES elements from `index` on, as float32.
INLINE vec load(const void *elements, ptrdiff_t index, enum element type) {
  vec value;
  half_vec half;
  if (type == FLOAT32) {
    memcpy(&value, (const float *)elements + index, sizeof value);
    return value;
  }
  memcpy(&half, (const uint16_t *)elements + index, sizeof half);
  // bfloat16 is the upper half of float32.
  return type == FLOAT16 ? half_to_float(half) : (vec)(widen(half) << 16);
}

// Rounds to nearest, ties to even; NaN stays NaN.
INLINE half_vec float_to_bfloat16(vec value) {
  uvec bits = (uvec)value;
  uvec rounded = bits + 0x7fff + ((bits >> 16) & 1);
  ivec is_nan = value != value;
  uvec result = (uvec)where(is_nan, (vec)(bits | 0x400000), (vec)rounded);
  return __builtin_convertvector(result >> 16, half_vec);
}

INLINE void store(void *elements, ptrdiff_t index, enum element type, vec value) {
  if (type == FLOAT32) {
    memcpy((float *)elements + index, &value, sizeof value);
    return;
  }
  half_vec half = type == FLOAT16 ? float_to_half(value) : float_to_bfloat16(value);
  memcpy((uint16_t *)elements + index, &half, sizeof half);
}

// PERMUTE(a, b, F, h) takes lane F(i, h) of a followed by b for each lane i.
#if defined(__clang__) || __GNUC__ >= 12
#define PERMUTE(a, b, F, h) __builtin_shufflevector(a, b, EACH_LANE(F, h))
#else
#define PERMUTE(a, b, F, h) __builtin_shuffle(a, b, (ivec){EACH_LANE(F, h)})
#endif
#define LANE(i, h) (i)
#define OF_B(i) (LANES + (i))
#define BLEND(i, h) ((i) & (h) ? OF_B(i) : (i))
#define SWAP(i, h) ((i) & (h) ? OF_B((i) - (h)) : (i) + (h))
#define FIRST_HALVES(i, h) ((i) & (h) ? OF_B((i) - (h)) : (i))
#define SECOND_HALVES(i, h) ((i) & (h) ? OF_B(i) : (i) + (h))
// Runs STEP(h) for h = LANES / 2, ..., 2, 1.
#if LANES == 16
#define HALVING(STEP) STEP(8) STEP(4) STEP(2) STEP(1)
#elif LANES == 8
#define HALVING(STEP) STEP(4) STEP(2) STEP(1)
#else
#define HALVING(STEP) STEP(2) STEP(1)
#endif

// Lane i of the result is the sum of all lanes of sums[i]. Overwrites sums.
INLINE vec sum_each(vec sums[LANES]) {
#define FOLD(h)                                            \
  _Pragma("GCC unroll 16") for (int i = 0; i < (h); i++) { \
    const vec a = sums[i], b = sums[i + (h)];              \
    sums[i] = PERMUTE(a, b, BLEND, h) + PERMUTE(a, b, SWAP, h); \
  }
  HALVING(FOLD)
  return sums[0];
}

// Lane i of block[j] becomes lane j of block[i].
INLINE void transpose(vec block[LANES]) {
#define EXCHANGE(h)                                            \
  _Pragma("GCC unroll 16") for (int i = 0; i < LANES; i++) {   \
    if (i & (h)) continue;                                     \
    const vec a = block[i], b = block[i + (h)];                \
    block[i] = PERMUTE(a, b, FIRST_HALVES, h);                 \
    block[i + (h)] = PERMUTE(a, b, SECOND_HALVES, h);          \
  }
  HALVING(EXCHANGE)
}

INLINE float sum_lanes(vec value) {
#define ADD_SWAPPED(h) value += PERMUTE(value, value, SWAP, h);
  HALVING(ADD_SWAPPED)
  return value[0];
}

INLINE float max_lanes(vec value) {
#define MAX_SWAPPED(h)                                     \
  {                                                        \
    const vec other = PERMUTE(value, value, SWAP, h);      \
    value = where(other > value, other, value);            \
  }
  HALVING(MAX_SWAPPED)
  return value[0];
}

// e^x for x <= 0: 2^n * e^r with |r| <= ln(2)/2 and e^r by Taylor's series; relative error below 2e-7, 0 below -87.
INLINE vec exp_nonpositive(vec x) {
  const vec shifter = splat(12582912);  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  vec shifted = x * 1.44269504f + shifter;
  vec n = shifted - shifter;
  vec r = x - n * 0.693359375f + n * 2.12194440e-4f;  // ln 2 in two parts, so that n ln 2 is exact enough
  vec series = splat(1 / 5040.f) * r + 1 / 720.f;
  series = series * r + 1 / 120.f;
  series = series * r + 1 / 24.f;
  series = series * r + 1 / 6.f;
  series = series * r + 0.5f;
  series = series * r + 1;
  series = series * r + 1;
  vec power = (vec)(((ivec)shifted - (ivec)shifter + 127) << 23);
  return where(x < -87, splat(0), series * power);
}

// Relative error below 4e-7. Near 0, where 1 - e cancels, an odd polynomial (minimax on |x| <= 0.625, within 1e-7).
INLINE vec tanh_vec(vec x) {
  vec magnitude = (vec)((ivec)x & 0x7fffffff);
  vec e = exp_nonpositive(-2 * magnitude);
  vec result = (1 - e) / (1 + e);
  vec square = x * x;
  vec series = splat(-0.00618598936f) * square + 0.0210973546f;
  series = series * square - 0.0538862273f;
  series = series * square + 0.133331671f;
  series = series * square - 0.333333313f;
  result = where(magnitude < 0.625f, magnitude + magnitude * square * series, result);
  return (vec)((ivec)result | ((ivec)x & (ivec)splat(-0.f)));
}

#endif
