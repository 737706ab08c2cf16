// Quantising activations; ops/linear_table.h has the exact definition.
#pragma once

#if defined(__AVX2__)
#include "linear_quantize_avx2.h"
#elif defined(__aarch64__)
#include "linear_quantize_neon.h"
#endif

namespace plait::PLAIT_ISA {
namespace {

void quantize_row(const float* x, int64_t cols, int8_t* values, float* scales, int16_t* sums) {
  for (int64_t block = 0; block < cols / kActBlock; ++block)
    quantize_block(x + block * kActBlock, values + block * kActBlock, scales + block, sums + block);
}

void quantize_rest(const float* x, const int8_t* values, const float* scales, int8_t* rest,
                   float* rest_scales, int16_t* rest_sums) {
  float left[kFineBlock];
  for (int i = 0; i < kFineBlock; ++i)
    left[i] = __builtin_fmaf(static_cast<float>(-values[i]), scales[i / kActBlock], x[i]);
  quantize_row(left, kFineBlock, rest, rest_scales, rest_sums);
}

}  // namespace
}  // namespace plait::PLAIT_ISA
