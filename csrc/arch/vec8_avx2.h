// Eight float lanes in one AVX2 register.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace plait::PLAIT_ISA {
namespace {

constexpr int kLanes = 8;

struct Vec {
  __m256 v;
};

inline Vec load(const float* p) {
  return {_mm256_loadu_ps(p)};
}
inline Vec load(const uint16_t* f16) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(f16)))};
}
inline void store(float* p, Vec a) {
  _mm256_storeu_ps(p, a.v);
}
inline void store(uint16_t* p, Vec a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT));
}
inline Vec splat(float x) {
  return {_mm256_set1_ps(x)};
}
inline Vec add(Vec a, Vec b) {
  return {_mm256_add_ps(a.v, b.v)};
}
inline Vec sub(Vec a, Vec b) {
  return {_mm256_sub_ps(a.v, b.v)};
}
inline Vec mul(Vec a, Vec b) {
  return {_mm256_mul_ps(a.v, b.v)};
}
inline Vec div(Vec a, Vec b) {
  return {_mm256_div_ps(a.v, b.v)};
}
inline Vec fma(Vec a, Vec b, Vec c) {
  return {_mm256_fmadd_ps(a.v, b.v, c.v)};
}
// The second operand when either is NaN, as in the generic version.
inline Vec max(Vec a, Vec b) {
  return {_mm256_max_ps(a.v, b.v)};
}
inline Vec min(Vec a, Vec b) {
  return {_mm256_min_ps(a.v, b.v)};
}
inline Vec round_even(Vec a) {
  return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
// The float whose exponent's bits are the last eight of `a`.
inline Vec exponent_from(Vec a) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a.v), 23))};
}
// a where x >= bound, else 0.
inline Vec keep_where_at_least(Vec x, Vec bound, Vec a) {
  return {_mm256_and_ps(_mm256_cmp_ps(x.v, bound.v, _CMP_GE_OQ), a.v)};
}
// In a fixed order: lanes i and i + 4, then i and i + 2, then the last two.
inline float sum_lanes(Vec a) {
  const __m128 y = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  const __m128 z = _mm_add_ps(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(_mm_add_ss(z, _mm_movehdup_ps(z)));
}
inline float max_lanes(Vec a) {
  const __m128 y = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  const __m128 z = _mm_max_ps(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(_mm_max_ss(z, _mm_movehdup_ps(z)));
}
inline float first_lane(Vec a) {
  return _mm256_cvtss_f32(a.v);
}
// Lane i gets what lane i ^ kDistance holds.
template <int kDistance>
inline Vec swap_lanes(Vec a) {
  if constexpr (kDistance == 4) return {_mm256_permute2f128_ps(a.v, a.v, 1)};
  return {_mm256_permute_ps(a.v, kDistance == 2 ? 0x4e : 0xb1)};
}

}  // namespace
}  // namespace plait::PLAIT_ISA
