// Quantising activations, for x86.
#pragma once

#include <immintrin.h>

#include "linear_lanes.h"
#include "ops/linear_table.h"

namespace plait::PLAIT_ISA {
namespace {

PLAIT_INLINE float largest_lane(__m256 a) {
  __m128 half = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  half = _mm_max_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}

// count: a multiple of 16. Infinities and NaN count as kLargestMagnitude.
PLAIT_INLINE float largest_magnitude(const float* x, int64_t count) {
  const __m256 sign = _mm256_set1_ps(-0.0f), top = _mm256_set1_ps(kLargestMagnitude);
  __m256 most[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
  for (int64_t at = 0; at < count; at += 16)
    for (int i = 0; i < 2; ++i) {
      const __m256 magnitude = _mm256_andnot_ps(sign, _mm256_loadu_ps(x + at + 8 * i));
      // Returns its second operand when one is not a number.
      most[i] = _mm256_max_ps(_mm256_min_ps(magnitude, top), most[i]);
    }
  return largest_lane(_mm256_max_ps(most[0], most[1]));
}

// The integer above, within the limits.
PLAIT_INLINE int multiplier_of(float ratio) {
  const __m128 value = _mm_set_ss(ratio);
  const __m128 limited = _mm_max_ss(
      _mm_min_ss(_mm_ceil_ss(value, value), _mm_set_ss(kLargestMultiplier)), _mm_set_ss(1.0f));
  return _mm_cvttss_si32(limited);
}

PLAIT_INLINE int sum_of(__m128i bytes) {
  const __m128i pairs = _mm_maddubs_epi16(_mm_set1_epi8(1), bytes);
  __m128i fours = _mm_madd_epi16(pairs, _mm_set1_epi16(1));
  fours = _mm_add_epi32(fours, _mm_shuffle_epi32(fours, 0x4e));
  fours = _mm_add_epi32(fours, _mm_shuffle_epi32(fours, 0xb1));
  return _mm_cvtsi128_si32(fours);
}

// 16 values; returns their sum.
PLAIT_INLINE int quantize_sixteen(const float* x, float inverse, int8_t* values) {
  const __m256 factor = _mm256_set1_ps(inverse);
  __m256i q[2];
  for (int i = 0; i < 2; ++i) {
    // Returns its second operand when one is not a number.
    const __m256 scaled =
        _mm256_max_ps(_mm256_mul_ps(_mm256_loadu_ps(x + 8 * i), factor), _mm256_set1_ps(-127.0f));
    q[i] = _mm256_cvtps_epi32(_mm256_min_ps(scaled, _mm256_set1_ps(127.0f)));
  }
  // The first pack works within halves: the permutation puts the quarters in order again.
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(q[0], q[1]), 0xd8);
  const __m128i bytes =
      _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(values), bytes);
  return sum_of(bytes);
}

}  // namespace
}  // namespace plait::PLAIT_ISA
