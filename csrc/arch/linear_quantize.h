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
    quantize_block(x + block * kActBlock, values + block * kActBlock, scales + block,
                   sums + 2 * block);
}

}  // namespace
}  // namespace plait::PLAIT_ISA
