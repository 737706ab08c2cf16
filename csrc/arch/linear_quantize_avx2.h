// Quantising a block of activations, for x86.
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

PLAIT_INLINE int16_t sum_of(__m128i bytes) {
  const __m128i pairs = _mm_maddubs_epi16(_mm_set1_epi8(1), bytes);
  __m128i fours = _mm_madd_epi16(pairs, _mm_set1_epi16(1));
  fours = _mm_add_epi32(fours, _mm_shuffle_epi32(fours, 0x4e));
  fours = _mm_add_epi32(fours, _mm_shuffle_epi32(fours, 0xb1));
  return static_cast<int16_t>(_mm_cvtsi128_si32(fours));
}

PLAIT_INLINE void quantize_block(const float* x, int8_t* values, float* scale, int16_t* sums) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  const __m256 top = _mm256_set1_ps(kLargestMagnitude);
  __m256 in[2];
  __m256 most = _mm256_setzero_ps();
  for (int i = 0; i < 2; ++i) {
    in[i] = _mm256_loadu_ps(x + 8 * i);
    // Both return their second operand when one is not a number.
    most = _mm256_max_ps(_mm256_min_ps(_mm256_andnot_ps(sign, in[i]), top), most);
  }
  const float largest = largest_lane(most);
  const bool is_zero = largest < kSmallestMagnitude;
  *scale = is_zero ? 0.0f : largest / 127.0f;
  const __m256 inverse = _mm256_set1_ps(is_zero ? 0.0f : 127.0f / largest);
  __m256i q[2];
  for (int i = 0; i < 2; ++i) {
    const __m256 scaled = _mm256_max_ps(_mm256_mul_ps(in[i], inverse), _mm256_set1_ps(-127.0f));
    q[i] = _mm256_cvtps_epi32(_mm256_min_ps(scaled, _mm256_set1_ps(127.0f)));
  }
  // The first pack works within halves: the permutation puts the quarters in order again.
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(q[0], q[1]), 0xd8);
  const __m128i bytes =
      _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(values), bytes);
  *sums = sum_of(bytes);
}

}  // namespace
}  // namespace plait::PLAIT_ISA
