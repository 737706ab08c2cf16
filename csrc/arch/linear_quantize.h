// Quantising activations; ops/linear_table.h has the exact definition.
#pragma once

#if defined(__AVX2__)
#include "linear_quantize_avx2.h"
#elif defined(__aarch64__)
#include "linear_quantize_neon.h"
#endif

namespace plait::PLAIT_ISA {
namespace {

float row_scale(const float* x, int64_t cols) {
  const float largest = largest_magnitude(x, cols);
  return largest < kSmallestMagnitude ? 0.0f : largest / (127.0f * kLargestMultiplier);
}

// One block, with the reciprocal of 127 scales.
PLAIT_INLINE void quantize_block(const float* x, float scale, float steps, ActBlock* out) {
  int32_t sums[2];
  for (int half = 0; half < 2; ++half) {
    const float* from = x + half * kActBlock;
    const int multiplier = multiplier_of(largest_magnitude(from, kActBlock) * steps);
    const float inverse = scale == 0.0f ? 0.0f : 1.0f / (static_cast<float>(multiplier) * scale);
    const int sum = quantize_sixteen(from, inverse, out->values + half * kActBlock);
    for (uint16_t& place : out->multipliers[half]) place = static_cast<uint16_t>(multiplier);
    sums[half] = multiplier * sum;
  }
  out->first_sum = sums[0];
  out->sum = sums[0] + sums[1];
}

void quantize_blocks(const float* x, int64_t count, float scale, ActBlock* out) {
  const float steps = scale == 0.0f ? 0.0f : 1.0f / (127.0f * scale);
  for (int64_t block = 0; block < count; ++block)
    quantize_block(x + block * kFineBlock, scale, steps, out + block);
}

void quantize_rest(const float* x, const ActBlock& block, float scale, ActBlock* rest) {
  float left[kFineBlock];
  for (int i = 0; i < kFineBlock; ++i) {
    const float step = static_cast<float>(block.multipliers[i / kActBlock][0]) * scale;
    left[i] = __builtin_fmaf(static_cast<float>(-block.values[i]), step, x[i]);
  }
  quantize_blocks(left, 1, kRestScale * scale, rest);
}

}  // namespace
}  // namespace plait::PLAIT_ISA
