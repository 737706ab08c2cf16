// Lanes for AVX2 and AVX-VNNI: one panel per vector.
#pragma once

#include <immintrin.h>

#include "linear_lanes_common.h"

namespace plait::PLAIT_ISA {
namespace {

using Bytes = __m256i;  // 8 rows x 4 columns
using Ints = __m256i;   // one per row
using Floats = __m256;  // one per row
constexpr int kVectorPanels = 1;
#if defined(__AVXVNNI__)
#define PLAIT_HAS_DOT
constexpr bool kHasDot = true;
#else
constexpr bool kHasDot = false;
#endif
constexpr bool kTakesSigned = false;
constexpr int kVectorRows = 8 * kVectorPanels;
constexpr int kVectorBytes = 4 * kVectorRows;

PLAIT_INLINE __m128i load16(const uint8_t* at) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
}
PLAIT_INLINE __m128i load8(const uint8_t* at) {
  return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(at));
}

PLAIT_INLINE Bytes load_bytes(Cursor from) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from.at));
}
// 8 halves, or 8 bytes, per panel.
PLAIT_INLINE Floats load_halves(Cursor from) {
  return _mm256_cvtph_ps(load16(from.at));
}
PLAIT_INLINE Ints load_u8(Cursor from) {
  return _mm256_cvtepu8_epi32(load8(from.at));
}
PLAIT_INLINE Ints load_i8(Cursor from) {
  return _mm256_cvtepi8_epi32(load8(from.at));
}
PLAIT_INLINE Floats load_floats(Cursor from) {
  return _mm256_loadu_ps(reinterpret_cast<const float*>(from.at));
}
PLAIT_INLINE Floats load_bfloats(Cursor from) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load16(from.at)), 16));
}

// Contiguous, aligned: scratch.
PLAIT_INLINE Bytes load_aligned(const uint8_t* at) {
  return _mm256_load_si256(reinterpret_cast<const __m256i*>(at));
}
PLAIT_INLINE Floats load_aligned(const float* at) {
  return _mm256_load_ps(at);
}
PLAIT_INLINE void store_aligned(uint8_t* at, Bytes a) {
  _mm256_store_si256(reinterpret_cast<__m256i*>(at), a);
}
PLAIT_INLINE void store_aligned(float* at, Floats a) {
  _mm256_store_ps(at, a);
}

PLAIT_INLINE Bytes splat_byte(int value) {
  return _mm256_set1_epi8(static_cast<char>(value));
}
PLAIT_INLINE Ints splat(int32_t value) {
  return _mm256_set1_epi32(value);
}
PLAIT_INLINE Floats splat(float value) {
  return _mm256_set1_ps(value);
}
PLAIT_INLINE Bytes splat_table(const int8_t* sixteen) {
  return _mm256_broadcastsi128_si256(load16(reinterpret_cast<const uint8_t*>(sixteen)));
}
// Four neighbouring activations, for every row.
PLAIT_INLINE Bytes splat_chunk(const int8_t* four) {
  int32_t word;
  std::memcpy(&word, four, sizeof word);
  return _mm256_set1_epi32(word);
}

// An integer in every place that `multiply` or `multiply_pairs` wants it.
PLAIT_INLINE Ints splat_multiplier(const uint16_t (&twice)[2]) {
#if defined(PLAIT_HAS_DOT)
  return _mm256_set1_epi32(twice[0]);
#else
  int32_t word;
  std::memcpy(&word, twice, sizeof word);
  return _mm256_set1_epi32(word);
#endif
}
// a times a power of two.
template <int kPower>
PLAIT_INLINE Ints times(Ints a) {
  return _mm256_slli_epi32(a, std::countr_zero(static_cast<unsigned>(kPower)));
}

PLAIT_INLINE Bytes both(Bytes a, Bytes b) {
  return _mm256_and_si256(a, b);
}
PLAIT_INLINE Bytes either(Bytes a, Bytes b) {
  return _mm256_or_si256(a, b);
}
PLAIT_INLINE Bytes flip(Bytes a, Bytes b) {
  return _mm256_xor_si256(a, b);
}
PLAIT_INLINE Bytes look_up(Bytes table, Bytes index) {
  return _mm256_shuffle_epi8(table, index);
}
// Whole 16-bit words move; what crosses a byte must be masked away. A negative distance goes right.
template <int kDistance>
PLAIT_INLINE Bytes shift(Bytes a) {
  if constexpr (kDistance > 0) return _mm256_slli_epi16(a, kDistance);
  if constexpr (kDistance < 0) return _mm256_srli_epi16(a, -kDistance);
  return a;
}
// Byte k of each lane, as an integer.
template <int kByte>
PLAIT_INLINE Ints unsigned_byte(Bytes a) {
  return _mm256_and_si256(_mm256_srli_epi32(a, 8 * kByte), _mm256_set1_epi32(255));
}
template <int kByte>
PLAIT_INLINE Ints signed_byte(Bytes a) {
  return _mm256_srai_epi32(_mm256_slli_epi32(a, 24 - 8 * kByte), 24);
}

PLAIT_INLINE Ints add(Ints a, Ints b) {
  return _mm256_add_epi32(a, b);
}
PLAIT_INLINE Ints subtract(Ints a, Ints b) {
  return _mm256_sub_epi32(a, b);
}
PLAIT_INLINE Bytes add_bytes(Bytes a, Bytes b) {
  return _mm256_add_epi8(a, b);
}
PLAIT_INLINE Bytes subtract_bytes(Bytes a, Bytes b) {
  return _mm256_sub_epi8(a, b);
}
PLAIT_INLINE Floats to_float(Ints a) {
  return _mm256_cvtepi32_ps(a);
}
PLAIT_INLINE Floats add(Floats a, Floats b) {
  return _mm256_add_ps(a, b);
}
PLAIT_INLINE Floats mul(Floats a, Floats b) {
  return _mm256_mul_ps(a, b);
}
PLAIT_INLINE Floats fma(Floats a, Floats b, Floats c) {
  return _mm256_fmadd_ps(a, b, c);
}
PLAIT_INLINE Floats sqrt(Floats a) {
  return _mm256_sqrt_ps(a);
}
PLAIT_INLINE bool any_above(Floats a, float bound) {
  return _mm256_movemask_ps(_mm256_cmp_ps(a, _mm256_set1_ps(bound), _CMP_GT_OQ)) != 0;
}
PLAIT_INLINE Floats negate(Floats a) {
  return _mm256_xor_ps(a, _mm256_set1_ps(-0.0f));
}

// Keeps an accumulator in its register: gcc otherwise moves the additions of a whole tile to its
// end and spills every product on the way (measured: half the speed).
PLAIT_INLINE void pin(Ints& a) {
  asm("" : "+x"(a));
}

#if defined(PLAIT_HAS_DOT)
PLAIT_INLINE Ints dot(Ints total, Bytes weights, Bytes x) {
  return _mm256_dpbusd_avx_epi32(total, weights, x);
}
PLAIT_INLINE Ints multiply(Ints a, Ints b) {
  return _mm256_mullo_epi32(a, b);
}
// a times the first multiplier + b times the second; both fit into 16 bits.
PLAIT_INLINE Ints multiply_both(Ints a, Ints b, const uint16_t (&multipliers)[2][2]) {
  int32_t both_multipliers;
  std::memcpy(&both_multipliers, &multipliers[0][1], sizeof both_multipliers);
  const Ints halves = _mm256_blend_epi16(a, _mm256_slli_epi32(b, 16), 0xaa);
  return _mm256_madd_epi16(halves, _mm256_set1_epi32(both_multipliers));
}
#endif

// Without `dot`: products of unsigned weights and signed activations, added in pairs to 16 bits.
// The caller sees to it that they fit.
PLAIT_INLINE Ints pair_dot(Bytes weights, Bytes x) {
  return _mm256_maddubs_epi16(weights, x);
}
PLAIT_INLINE Ints add_pairs(Ints a, Ints b) {
  return _mm256_add_epi16(a, b);
}
PLAIT_INLINE Ints subtract_pairs(Ints a, Ints b) {
  return _mm256_sub_epi16(a, b);
}
// Pairs times a multiplier, added to 32 bits.
PLAIT_INLINE Ints multiply_pairs(Ints a, Ints multiplier) {
  return _mm256_madd_epi16(a, multiplier);
}
PLAIT_INLINE Bytes magnitude(Bytes a) {
  return _mm256_abs_epi8(a);
}
PLAIT_INLINE Bytes with_sign(Bytes a, Bytes sign) {
  return _mm256_sign_epi8(a, sign);
}

// One row of out per token: elements [0, count) of a vector of rows.
PLAIT_INLINE void store_rows(float* at, Floats a, int64_t count) {
  if (count >= kVectorRows) return _mm256_storeu_ps(at, a);
  alignas(32) float rows[kVectorRows];
  _mm256_store_ps(rows, a);
  for (int64_t i = 0; i < count; ++i) at[i] = rows[i];
}
PLAIT_INLINE Floats load_rows(const float* at, int64_t count) {
  if (count >= kVectorRows) return _mm256_loadu_ps(at);
  alignas(32) float rows[kVectorRows] = {};
  for (int64_t i = 0; i < count; ++i) rows[i] = at[i];
  return _mm256_load_ps(rows);
}

PLAIT_INLINE void prefetch(const uint8_t* at) {
  _mm_prefetch(reinterpret_cast<const char*>(at), _MM_HINT_T0);
}
// Into the second cache only.
PLAIT_INLINE void prefetch_far(const uint8_t* at) {
  _mm_prefetch(reinterpret_cast<const char*>(at), _MM_HINT_T1);
}

}  // namespace
}  // namespace plait::PLAIT_ISA
