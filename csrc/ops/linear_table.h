// What each instruction set provides for plait/linear.h. The functions take the same arguments as
// their namesakes there.
#pragma once

#include "plait/linear.h"
#include "plait/screen.h"

namespace plait {

// Quantising activations, exactly. Infinities and NaN count as kLargestMagnitude; all divisions and
// products are rounded to float.
//
// With m the largest magnitude of a row its scale is m / (127 * kLargestMultiplier), or 0 if
// m < kSmallestMagnitude. Of 16 values with the largest magnitude n
//   multiplier = ceil(n * (1 / (127 * scale))), within [1, kLargestMultiplier]
//   value = round_half_even(x * (1 / (multiplier * scale))), within [-127, 127], NaN giving -127
// In a row with scale 0 multipliers are 1 and values are those of x * 0.
//
// A rest is x - value * (multiplier * scale) in one rounding, quantised with the row's scale times
// kRestScale.
constexpr float kLargestMagnitude = 3.40282347e38f;
constexpr float kSmallestMagnitude = 0x1p-100f;

struct LinearCall {
  const PackedMatrix& weights;
  int64_t num_rows;  // of activations
  int64_t panel_begin;
  int64_t panel_end;
  const LinearOutput& out;
  LinearScratch& scratch;
  int64_t expand_from = 0;  // int8 path
};

struct LinearTable {
  float (*row_scale)(const float* x, int64_t cols);
  void (*quantize_blocks)(const float* x, int64_t count, float scale, ActBlock* out);
  void (*quantize_rest)(const float* x, const ActBlock& block, float scale, ActBlock* rest);
  void (*int8)(const LinearCall& call, const QuantizedRows& x);
  void (*f32)(const LinearCall& call, const float* x, int64_t x_stride);
  void (*screen)(const LinearCall& call, const QuantizedRows& x, BestRows* best);
};

}  // namespace plait
