// What each instruction set provides for plait/linear.h. The functions take the same arguments as
// their namesakes there.
#pragma once

#include "plait/linear.h"
#include "plait/screen.h"

namespace plait {

// Quantising a block of 16 activations, exactly: with m the largest magnitude (infinities and NaN
// count as kLargestMagnitude) the scale is m / 127 and a value is round_half_even(x * (127 / m)),
// clamped to [-127, 127], NaN giving -127; all divisions and products rounded to float. A block
// with m < kSmallestMagnitude is all zeros with scale 0.
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
  void (*quantize_row)(const float* x, int64_t cols, int8_t* values, float* scales, int16_t* sums);
  void (*quantize_rest)(const float* x, const int8_t* values, const float* scales, int8_t* rest,
                        float* rest_scales, int16_t* rest_sums);
  void (*int8)(const LinearCall& call, const QuantizedRows& x);
  void (*f32)(const LinearCall& call, const float* x, int64_t x_stride);
  void (*screen)(const LinearCall& call, const QuantizedRows& x, BestRows* best);
};

}  // namespace plait
