// Lanes for AVX-512 with VNNI: two panels per vector.
#pragma once

#include <immintrin.h>

#include "linear_lanes_common.h"

namespace plait::PLAIT_ISA {
namespace {

using Bytes = __m512i;  // 16 rows x 4 columns
using Ints = __m512i;   // one per row
using Floats = __m512;  // one per row
constexpr int kVectorPanels = 2;
#define PLAIT_HAS_DOT
constexpr bool kHasDot = true;
constexpr bool kTakesSigned = false;
constexpr int kVectorRows = 8 * kVectorPanels;
constexpr int kVectorBytes = 4 * kVectorRows;

// 32, 16 or 8 bytes of each panel, side by side.
PLAIT_INLINE __m512i load32(Cursor from) {
  const __m256i first = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from.at));
  const __m256i second = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from.at + from.next));
  return _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
}
PLAIT_INLINE __m256i load16(Cursor from) {
  const __m128i first = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from.at));
  const __m128i second = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from.at + from.next));
  return _mm256_inserti128_si256(_mm256_castsi128_si256(first), second, 1);
}
PLAIT_INLINE __m128i load8(Cursor from) {
  const __m128i first = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from.at));
  const __m128i second = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from.at + from.next));
  return _mm_unpacklo_epi64(first, second);
}

PLAIT_INLINE Bytes load_bytes(Cursor from) {
  return load32(from);
}
PLAIT_INLINE Floats load_halves(Cursor from) {
  return _mm512_cvtph_ps(load16(from));
}
PLAIT_INLINE Ints load_u8(Cursor from) {
  return _mm512_cvtepu8_epi32(load8(from));
}
PLAIT_INLINE Ints load_i8(Cursor from) {
  return _mm512_cvtepi8_epi32(load8(from));
}
PLAIT_INLINE Floats load_floats(Cursor from) {
  return _mm512_castsi512_ps(load32(from));
}
PLAIT_INLINE Floats load_bfloats(Cursor from) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load16(from)), 16));
}

// Contiguous, aligned: scratch.
PLAIT_INLINE Bytes load_aligned(const uint8_t* at) {
  return _mm512_load_si512(at);
}
PLAIT_INLINE Floats load_aligned(const float* at) {
  return _mm512_load_ps(at);
}
PLAIT_INLINE void store_aligned(uint8_t* at, Bytes a) {
  _mm512_store_si512(at, a);
}
PLAIT_INLINE void store_aligned(float* at, Floats a) {
  _mm512_store_ps(at, a);
}

PLAIT_INLINE Bytes splat_byte(int value) {
  return _mm512_set1_epi8(static_cast<char>(value));
}
PLAIT_INLINE Ints splat(int32_t value) {
  return _mm512_set1_epi32(value);
}
PLAIT_INLINE Floats splat(float value) {
  return _mm512_set1_ps(value);
}
PLAIT_INLINE Bytes splat_table(const int8_t* sixteen) {
  return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(sixteen)));
}
// Four neighbouring activations, for every row.
PLAIT_INLINE Bytes splat_chunk(const int8_t* four) {
  int32_t word;
  std::memcpy(&word, four, sizeof word);
  return _mm512_set1_epi32(word);
}

// An integer in every place that `multiply` wants it.
PLAIT_INLINE Ints splat_multiplier(const uint16_t (&twice)[2]) {
  return _mm512_set1_epi32(twice[0]);
}
// a times a power of two.
template <int kPower>
PLAIT_INLINE Ints times(Ints a) {
  return _mm512_slli_epi32(a, std::countr_zero(static_cast<unsigned>(kPower)));
}

PLAIT_INLINE Bytes both(Bytes a, Bytes b) {
  return _mm512_and_si512(a, b);
}
PLAIT_INLINE Bytes either(Bytes a, Bytes b) {
  return _mm512_or_si512(a, b);
}
PLAIT_INLINE Bytes flip(Bytes a, Bytes b) {
  return _mm512_xor_si512(a, b);
}
PLAIT_INLINE Bytes look_up(Bytes table, Bytes index) {
  return _mm512_shuffle_epi8(table, index);
}
// Whole 16-bit words move; what crosses a byte must be masked away. A negative distance goes right.
template <int kDistance>
PLAIT_INLINE Bytes shift(Bytes a) {
  if constexpr (kDistance > 0) return _mm512_slli_epi16(a, kDistance);
  if constexpr (kDistance < 0) return _mm512_srli_epi16(a, -kDistance);
  return a;
}
// Byte k of each lane, as an integer.
template <int kByte>
PLAIT_INLINE Ints unsigned_byte(Bytes a) {
  return _mm512_and_si512(_mm512_srli_epi32(a, 8 * kByte), _mm512_set1_epi32(255));
}
template <int kByte>
PLAIT_INLINE Ints signed_byte(Bytes a) {
  return _mm512_srai_epi32(_mm512_slli_epi32(a, 24 - 8 * kByte), 24);
}

PLAIT_INLINE Ints add(Ints a, Ints b) {
  return _mm512_add_epi32(a, b);
}
PLAIT_INLINE Ints subtract(Ints a, Ints b) {
  return _mm512_sub_epi32(a, b);
}
PLAIT_INLINE Bytes subtract_bytes(Bytes a, Bytes b) {
  return _mm512_sub_epi8(a, b);
}
PLAIT_INLINE Floats to_float(Ints a) {
  return _mm512_cvtepi32_ps(a);
}
PLAIT_INLINE Floats add(Floats a, Floats b) {
  return _mm512_add_ps(a, b);
}
PLAIT_INLINE Floats mul(Floats a, Floats b) {
  return _mm512_mul_ps(a, b);
}
PLAIT_INLINE Floats fma(Floats a, Floats b, Floats c) {
  return _mm512_fmadd_ps(a, b, c);
}
PLAIT_INLINE Floats sqrt(Floats a) {
  return _mm512_sqrt_ps(a);
}
PLAIT_INLINE bool any_above(Floats a, float bound) {
  return _mm512_cmp_ps_mask(a, _mm512_set1_ps(bound), _CMP_GT_OQ) != 0;
}
PLAIT_INLINE Floats negate(Floats a) {
  return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f));
}

// Keeps an accumulator in its register, and the additions of a tile in their order.
PLAIT_INLINE void pin(Ints& a) {
  asm("" : "+v"(a));
}

PLAIT_INLINE Ints dot(Ints total, Bytes weights, Bytes x) {
  return _mm512_dpbusd_epi32(total, weights, x);
}
PLAIT_INLINE Ints multiply(Ints a, Ints b) {
  return _mm512_mullo_epi32(a, b);
}
// a times the first multiplier + b times the second; both fit into 16 bits.
PLAIT_INLINE Ints multiply_both(Ints a, Ints b, const uint16_t (&multipliers)[2][2]) {
  int32_t both_multipliers;
  std::memcpy(&both_multipliers, &multipliers[0][1], sizeof both_multipliers);
  const Ints halves = _mm512_mask_blend_epi16(0xaaaaaaaa, a, _mm512_slli_epi32(b, 16));
  return _mm512_madd_epi16(halves, _mm512_set1_epi32(both_multipliers));
}
// `dot` asks for none.
PLAIT_INLINE Bytes magnitude(Bytes a) {
  return a;
}

// One row of out per token: elements [0, count) of a vector of rows.
PLAIT_INLINE __mmask16 first_rows(int64_t count) {
  return static_cast<__mmask16>(count >= kVectorRows ? 0xffff : (1 << count) - 1);
}
PLAIT_INLINE void store_rows(float* at, Floats a, int64_t count) {
  _mm512_mask_storeu_ps(at, first_rows(count), a);
}
PLAIT_INLINE Floats load_rows(const float* at, int64_t count) {
  return _mm512_maskz_loadu_ps(first_rows(count), at);
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
