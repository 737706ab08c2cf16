// Eight float lanes in two NEON registers.
#pragma once

#include <arm_neon.h>

#include <cstdint>

namespace plait::PLAIT_ISA {
namespace {

constexpr int kLanes = 8;

struct Vec {
  float32x4_t low, high;
};

inline Vec load(const float* p) {
  return {vld1q_f32(p), vld1q_f32(p + 4)};
}
inline Vec load(const uint16_t* f16) {
  const float16x8_t halves = vreinterpretq_f16_u16(vld1q_u16(f16));
  return {vcvt_f32_f16(vget_low_f16(halves)), vcvt_high_f32_f16(halves)};
}
inline void store(float* p, Vec a) {
  vst1q_f32(p, a.low);
  vst1q_f32(p + 4, a.high);
}
inline void store(uint16_t* p, Vec a) {
  vst1q_u16(p, vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(a.low), a.high)));
}
inline Vec splat(float x) {
  return {vdupq_n_f32(x), vdupq_n_f32(x)};
}
inline Vec add(Vec a, Vec b) {
  return {vaddq_f32(a.low, b.low), vaddq_f32(a.high, b.high)};
}
inline Vec sub(Vec a, Vec b) {
  return {vsubq_f32(a.low, b.low), vsubq_f32(a.high, b.high)};
}
inline Vec mul(Vec a, Vec b) {
  return {vmulq_f32(a.low, b.low), vmulq_f32(a.high, b.high)};
}
inline Vec div(Vec a, Vec b) {
  return {vdivq_f32(a.low, b.low), vdivq_f32(a.high, b.high)};
}
inline Vec fma(Vec a, Vec b, Vec c) {
  return {vfmaq_f32(c.low, a.low, b.low), vfmaq_f32(c.high, a.high, b.high)};
}
// The second operand when either is NaN, as in the generic version; vmaxq would give the NaN.
inline Vec max(Vec a, Vec b) {
  return {vbslq_f32(vcgtq_f32(a.low, b.low), a.low, b.low),
          vbslq_f32(vcgtq_f32(a.high, b.high), a.high, b.high)};
}
inline Vec min(Vec a, Vec b) {
  return {vbslq_f32(vcltq_f32(a.low, b.low), a.low, b.low),
          vbslq_f32(vcltq_f32(a.high, b.high), a.high, b.high)};
}
inline Vec round_even(Vec a) {
  return {vrndnq_f32(a.low), vrndnq_f32(a.high)};
}
// The float whose exponent's bits are the last eight of `a`.
inline Vec exponent_from(Vec a) {
  return {vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(a.low), 23)),
          vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(a.high), 23))};
}
// a where x >= bound, else 0.
inline float32x4_t keep_where(uint32x4_t mask, float32x4_t a) {
  return vreinterpretq_f32_u32(vandq_u32(mask, vreinterpretq_u32_f32(a)));
}
inline Vec keep_where_at_least(Vec x, Vec bound, Vec a) {
  return {keep_where(vcgeq_f32(x.low, bound.low), a.low),
          keep_where(vcgeq_f32(x.high, bound.high), a.high)};
}
// In a fixed order: lanes i and i + 4, then i and i + 2, then the last two.
inline float sum_lanes(Vec a) {
  const float32x4_t y = vaddq_f32(a.low, a.high);
  const float32x2_t z = vadd_f32(vget_low_f32(y), vget_high_f32(y));
  return vget_lane_f32(z, 0) + vget_lane_f32(z, 1);
}
inline float max_lanes(Vec a) {
  float x[kLanes];
  store(x, a);
  float largest = x[0];
  for (int i = 1; i < kLanes; ++i) largest = x[i] > largest ? x[i] : largest;
  return largest;
}
inline float first_lane(Vec a) {
  return vgetq_lane_f32(a.low, 0);
}
// Lane i gets what lane i ^ kDistance holds.
template <int kDistance>
inline Vec swap_lanes(Vec a) {
  if constexpr (kDistance == 4) return {a.high, a.low};
  if constexpr (kDistance == 2) return {vextq_f32(a.low, a.low, 2), vextq_f32(a.high, a.high, 2)};
  return {vrev64q_f32(a.low), vrev64q_f32(a.high)};
}

}  // namespace
}  // namespace plait::PLAIT_ISA
