// Eight float lanes. Included by the kernels of each instruction set, in that set's own namespace,
// so that two translation units never share an inline function compiled with different flags.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace plait::PLAIT_ISA {
namespace {

constexpr int kLanes = 8;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

#if defined(__AVX2__)

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
// 2^n for whole n in [-126, 127].
inline Vec power_of_two(Vec n) {
  const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(n.v), _mm256_set1_epi32(127));
  return {_mm256_castsi256_ps(_mm256_slli_epi32(biased, 23))};
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
// Lane i gets what lane i ^ Distance holds.
template <int Distance>
inline Vec swap_lanes(Vec a) {
  if constexpr (Distance == 4) return {_mm256_permute2f128_ps(a.v, a.v, 1)};
  return {_mm256_permute_ps(a.v, Distance == 2 ? 0x4e : 0xb1)};
}

#else

struct Vec {
  float v[kLanes];
};

template <class F>
inline Vec lanes(F f) {
  Vec out;
  for (int i = 0; i < kLanes; ++i) out.v[i] = f(i);
  return out;
}

// IEEE half <-> single, round to nearest even, as the F16C instructions do.
inline float half_to_float(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  const uint32_t exponent = (h >> 10) & 31u;
  uint32_t mantissa = h & 1023u;
  uint32_t bits;
  if (exponent == 31) {
    bits = sign | 0x7f800000u | (mantissa << 13) | (mantissa ? 0x400000u : 0);
  } else if (exponent != 0) {
    bits = sign | ((exponent + 112) << 23) | (mantissa << 13);
  } else if (mantissa == 0) {
    bits = sign;
  } else {
    const float value = static_cast<float>(mantissa) * 0x1p-24f;
    std::memcpy(&bits, &value, 4);
    bits |= sign;
  }
  float out;
  std::memcpy(&out, &bits, 4);
  return out;
}

inline uint16_t float_to_half(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  bits &= 0x7fffffffu;
  if (bits > 0x7f800000u) return sign | 0x7e00u | static_cast<uint16_t>((bits >> 13) & 0x3ffu);
  if (bits >= 0x477ff000u) return sign | 0x7c00u;
  if (bits < 0x38800000u) {  // subnormal half: adding 0.5 aligns the rounding at 2^-24
    float value;
    std::memcpy(&value, &bits, 4);
    value += 0.5f;
    std::memcpy(&bits, &value, 4);
    return sign | static_cast<uint16_t>(bits - 0x3f000000u);
  }
  const uint32_t odd = (bits >> 13) & 1u;
  return sign | static_cast<uint16_t>((bits - 0x38000000u + 0xfffu + odd) >> 13);
}

inline Vec load(const float* p) {
  return lanes([&](int i) { return p[i]; });
}
inline Vec load(const uint16_t* f16) {
  return lanes([&](int i) { return half_to_float(f16[i]); });
}
inline void store(float* p, Vec a) {
  std::memcpy(p, a.v, sizeof a.v);
}
inline void store(uint16_t* p, Vec a) {
  for (int i = 0; i < kLanes; ++i) p[i] = float_to_half(a.v[i]);
}
inline Vec splat(float x) {
  return lanes([&](int) { return x; });
}
inline Vec add(Vec a, Vec b) {
  return lanes([&](int i) { return a.v[i] + b.v[i]; });
}
inline Vec sub(Vec a, Vec b) {
  return lanes([&](int i) { return a.v[i] - b.v[i]; });
}
inline Vec mul(Vec a, Vec b) {
  return lanes([&](int i) { return a.v[i] * b.v[i]; });
}
inline Vec div(Vec a, Vec b) {
  return lanes([&](int i) { return a.v[i] / b.v[i]; });
}
inline Vec fma(Vec a, Vec b, Vec c) {
  return lanes([&](int i) { return std::fma(a.v[i], b.v[i], c.v[i]); });
}
inline Vec max(Vec a, Vec b) {
  return lanes([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
inline Vec min(Vec a, Vec b) {
  return lanes([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
inline Vec round_even(Vec a) {
  return lanes([&](int i) { return std::nearbyint(a.v[i]); });
}
inline Vec power_of_two(Vec n) {
  return lanes([&](int i) { return std::ldexp(1.0f, static_cast<int>(n.v[i])); });
}
inline Vec keep_where_at_least(Vec x, Vec bound, Vec a) {
  return lanes([&](int i) { return x.v[i] >= bound.v[i] ? a.v[i] : 0.0f; });
}

inline float sum_lanes(Vec a) {
  const float* x = a.v;
  const float y[4] = {x[0] + x[4], x[1] + x[5], x[2] + x[6], x[3] + x[7]};
  return (y[0] + y[2]) + (y[1] + y[3]);
}
inline float max_lanes(Vec a) {
  float largest = a.v[0];
  for (int i = 1; i < kLanes; ++i) largest = a.v[i] > largest ? a.v[i] : largest;
  return largest;
}
inline float first_lane(Vec a) {
  return a.v[0];
}
template <int Distance>
inline Vec swap_lanes(Vec a) {
  return lanes([&](int i) { return a.v[i ^ Distance]; });
}

#endif

// e^x to about 2 ulp; exactly 1 at 0 and exactly 0 below -87.33 (and at -inf). Large x saturates at
// e^88. x = n ln 2 + r with |r| <= ln 2 / 2, Taylor polynomial of degree 7 in r.
inline Vec exp(Vec x) {
  const Vec lowest = splat(-87.33f);
  const Vec clamped = max(min(x, splat(88.0f)), lowest);
  const Vec n = round_even(mul(clamped, splat(1.44269504f)));
  Vec r = fma(n, splat(-0.693359375f), clamped);
  r = fma(n, splat(2.12194440e-4f), r);
  Vec p = splat(1.0f / 5040);
  p = fma(p, r, splat(1.0f / 720));
  p = fma(p, r, splat(1.0f / 120));
  p = fma(p, r, splat(1.0f / 24));
  p = fma(p, r, splat(1.0f / 6));
  p = fma(p, r, splat(0.5f));
  p = fma(p, r, splat(1.0f));
  p = fma(p, r, splat(1.0f));
  return keep_where_at_least(x, lowest, mul(p, power_of_two(n)));
}

inline float exp_one(float x) {
  return first_lane(exp(splat(x)));
}

}  // namespace
}  // namespace plait::PLAIT_ISA
