// Quantising activations, for NEON.
#pragma once

#include <arm_neon.h>

#include <algorithm>
#include <cmath>

#include "linear_lanes.h"
#include "ops/linear_table.h"

namespace plait::PLAIT_ISA {
namespace {

// Smaller and larger of the two; the second when one is not a number.
PLAIT_INLINE float32x4_t smaller(float32x4_t a, float32x4_t b) {
  return vbslq_f32(vcltq_f32(a, b), a, b);
}
PLAIT_INLINE float32x4_t larger(float32x4_t a, float32x4_t b) {
  return vbslq_f32(vcgtq_f32(a, b), a, b);
}

// Four floats, scaled and rounded, all within [-127, 127].
PLAIT_INLINE int32x4_t quantize_four(const float* x, float inverse) {
  const float32x4_t scaled = larger(vmulq_n_f32(vld1q_f32(x), inverse), vdupq_n_f32(-127.0f));
  return vcvtnq_s32_f32(smaller(scaled, vdupq_n_f32(127.0f)));
}
PLAIT_INLINE int16x8_t quantize_eight(const float* x, float inverse) {
  return vcombine_s16(vmovn_s32(quantize_four(x, inverse)),
                      vmovn_s32(quantize_four(x + 4, inverse)));
}

// count: a multiple of 4. Infinities and NaN count as kLargestMagnitude.
PLAIT_INLINE float largest_magnitude(const float* x, int64_t count) {
  const float32x4_t top = vdupq_n_f32(kLargestMagnitude);
  float32x4_t most = vdupq_n_f32(0.0f);
  for (int64_t i = 0; i < count; i += 4)
    most = larger(smaller(vabsq_f32(vld1q_f32(x + i)), top), most);
  return vmaxvq_f32(most);
}

// The integer above, within the limits.
PLAIT_INLINE int multiplier_of(float ratio) {
  const float above = std::ceil(ratio);
  return static_cast<int>(std::clamp(above, 1.0f, static_cast<float>(kLargestMultiplier)));
}

// 16 values; returns their sum.
PLAIT_INLINE int quantize_sixteen(const float* x, float inverse, int8_t* values) {
  const int8x16_t bytes =
      vcombine_s8(vmovn_s16(quantize_eight(x, inverse)), vmovn_s16(quantize_eight(x + 8, inverse)));
  vst1q_s8(values, bytes);
  return vaddlvq_s8(bytes);
}

}  // namespace
}  // namespace plait::PLAIT_ISA
