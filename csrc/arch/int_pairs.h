// Products of int16 added in pairs to 32 bits, eight lanes: what attention over int8 pages is made
// of.
#pragma once

#include "vec8.h"

namespace plait::PLAIT_ISA {
namespace {

#if defined(__AVX2__)

struct Ints {
  __m256i v;
};

inline Ints no_ints() {
  return {_mm256_setzero_si256()};
}
// 16 bytes as int16.
inline Ints load_pairs(const int8_t* p) {
  return {_mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
inline Ints splat_pair(const int16_t* p) {
  int32_t pair;
  std::memcpy(&pair, p, sizeof pair);
  return {_mm256_set1_epi32(pair)};
}
// total + a0 b0 + a1 b1 for each of 8 pairs.
inline Ints add_products(Ints total, Ints a, Ints b) {
  __m256i sum = _mm256_add_epi32(total.v, _mm256_madd_epi16(a.v, b.v));
  asm("" : "+x"(sum));  // or gcc makes all products first and spills them
  return {sum};
}
inline Vec to_floats(Ints a) {
  return {_mm256_cvtepi32_ps(a.v)};
}
inline void store_rounded(int16_t* p, Vec a) {
  const __m256i whole = _mm256_cvtps_epi32(a.v);
  _mm_storeu_si128(
      reinterpret_cast<__m128i*>(p),
      _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1)));
}

#elif defined(PLAIT_NEON)

struct Ints {
  int32x4_t low, high;
};
struct Pairs {
  int16x8_t low, high;
};

inline Ints no_ints() {
  return {vdupq_n_s32(0), vdupq_n_s32(0)};
}
inline Pairs load_pairs(const int8_t* p) {
  const int8x16_t bytes = vld1q_s8(p);
  return {vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes)};
}
inline Pairs splat_pair(const int16_t* p) {
  int32_t pair;
  std::memcpy(&pair, p, sizeof pair);
  const int16x8_t all = vreinterpretq_s16_s32(vdupq_n_s32(pair));
  return {all, all};
}
inline int32x4_t products(int16x8_t a, int16x8_t b) {
  return vpaddq_s32(vmull_s16(vget_low_s16(a), vget_low_s16(b)), vmull_high_s16(a, b));
}
inline Ints add_products(Ints total, Pairs a, Pairs b) {
  return {vaddq_s32(total.low, products(a.low, b.low)),
          vaddq_s32(total.high, products(a.high, b.high))};
}
inline Vec to_floats(Ints a) {
  return {vcvtq_f32_s32(a.low), vcvtq_f32_s32(a.high)};
}
inline void store_rounded(int16_t* p, Vec a) {
  vst1q_s16(p, vcombine_s16(vqmovn_s32(vcvtnq_s32_f32(a.low)), vqmovn_s32(vcvtnq_s32_f32(a.high))));
}

#else

struct Ints {
  int32_t v[kLanes];
};
struct Pairs {
  int16_t v[2 * kLanes];
};

inline Ints no_ints() {
  return {};
}
inline Pairs load_pairs(const int8_t* p) {
  Pairs out;
  for (int i = 0; i < 2 * kLanes; ++i) out.v[i] = p[i];
  return out;
}
inline Pairs splat_pair(const int16_t* p) {
  Pairs out;
  for (int i = 0; i < 2 * kLanes; ++i) out.v[i] = p[i % 2];
  return out;
}
inline Ints add_products(Ints total, Pairs a, Pairs b) {
  for (int i = 0; i < kLanes; ++i)
    total.v[i] += a.v[2 * i] * b.v[2 * i] + a.v[2 * i + 1] * b.v[2 * i + 1];
  return total;
}
inline Vec to_floats(Ints a) {
  return lanes([&](int i) { return static_cast<float>(a.v[i]); });
}
inline void store_rounded(int16_t* p, Vec a) {
  for (int i = 0; i < kLanes; ++i) p[i] = static_cast<int16_t>(std::nearbyint(a.v[i]));
}

#endif

}  // namespace
}  // namespace plait::PLAIT_ISA
