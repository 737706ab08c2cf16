// The kernels in plain C++: the definition, to the bit, of what the other tables compute.
#include <cmath>

#include "ops/linear_table.h"
#include "quant/formats.h"
#include "quant/planes.h"
#include "quant/sparse_panel.h"

namespace plait::generic {
namespace {

using quant::RowBlock;

// Half to even for |x| < 2^22, without a call per element.
float round_even(float x) {
  constexpr float kShift = 0x1.8p23f;
  return (x + kShift) - kShift;
}

float largest_magnitude(const float* x, int64_t count) {
  float largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    const float magnitude = std::fabs(x[i]);
    const float finite = magnitude <= kLargestMagnitude ? magnitude : kLargestMagnitude;
    largest = finite > largest ? finite : largest;
  }
  return largest;
}

float row_scale(const float* x, int64_t cols) {
  const float largest = largest_magnitude(x, cols);
  return largest < kSmallestMagnitude ? 0.0f : largest / (127.0f * kLargestMultiplier);
}

int multiplier_of(float ratio) {
  const float above = std::ceil(ratio);
  return above >= kLargestMultiplier ? kLargestMultiplier
         : above >= 1                ? static_cast<int>(above)
                                     : 1;
}

void quantize_block(const float* x, float scale, ActBlock* out) {
  const float steps = scale == 0.0f ? 0.0f : 1.0f / (127.0f * scale);
  int32_t sums[2] = {0, 0};
  for (int half = 0; half < 2; ++half) {
    const int multiplier =
        multiplier_of(largest_magnitude(x + half * kActBlock, kActBlock) * steps);
    const float inverse = scale == 0.0f ? 0.0f : 1.0f / (static_cast<float>(multiplier) * scale);
    for (uint16_t& place : out->multipliers[half]) place = static_cast<uint16_t>(multiplier);
    for (int i = half * kActBlock; i < (half + 1) * kActBlock; ++i) {
      const float scaled = x[i] * inverse;
      const float above = scaled >= -127.0f ? scaled : -127.0f;  // not-a-number too
      out->values[i] = static_cast<int8_t>(round_even(above <= 127.0f ? above : 127.0f));
      sums[half] += multiplier * out->values[i];
    }
  }
  out->first_sum = sums[0];
  out->sum = sums[0] + sums[1];
}

void quantize_blocks(const float* x, int64_t count, float scale, ActBlock* out) {
  for (int64_t i = 0; i < count; ++i) quantize_block(x + i * kFineBlock, scale, out + i);
}

void quantize_rest(const float* x, const ActBlock& block, float scale, ActBlock* rest) {
  float left[kFineBlock];
  for (int i = 0; i < kFineBlock; ++i) {
    const float step = static_cast<float>(block.multipliers[i / kActBlock][0]) * scale;
    left[i] = std::fma(static_cast<float>(-block.values[i]), step, x[i]);
  }
  quantize_block(left, kRestScale * scale, rest);
}

void write(const LinearCall& call, int64_t token, int64_t row, float value) {
  float* at = call.out.data + token * call.out.stride + row;
  if (call.out.bias != nullptr) value += call.out.bias[row];
  *at = call.out.accumulate ? value + *at : value;
}

// Calls body(row) for the rows of W in this call's panels.
template <class Body>
void for_each_row(const LinearCall& call, const Body& body) {
  const int64_t last = call.panel_end * kPanelRows;
  const int64_t end = last < call.weights.rows() ? last : call.weights.rows();
  for (int64_t row = call.panel_begin * kPanelRows; row < end; ++row) body(row);
}

// One row of W as integers with their scales and minima.
struct IntegerRow {
  int8_t* weights;  // [cols]
  float* scales;    // [cols / group]
  float* minima;    // the same, formats with a minimum only
};

// One unit of a row, from panels or from planes.
template <class P>
void load_unit(const PackedMatrix& matrix, int64_t row, int64_t unit, RowBlock& block) {
  const int lane = static_cast<int>(row % kPanelRows);
  const uint8_t* panel = matrix.panel(row / kPanelRows);
  if (!matrix.has_planes()) return P::load(panel + unit * P::kUnitBytes, lane, block);
  const uint8_t* low = matrix.low_panel(row / kPanelRows);
  quant::visit_planes(matrix.format(), [&]<class F>() {
    using Planes = quant::Planes<F>;
    Planes::load(panel + unit * Planes::kHighBytes, low + unit * Planes::kLowBytes, lane, block);
  });
}

template <class P>
void unpack_row(const PackedMatrix& matrix, int64_t row, const IntegerRow& out) {
  constexpr int kGroups = P::kUnitColumns / P::kGroup;
  RowBlock block{};
  for (int64_t unit = 0; unit < matrix.cols() / P::kUnitColumns; ++unit) {
    load_unit<P>(matrix, row, unit, block);
    for (int i = 0; i < P::kUnitColumns; ++i)
      out.weights[unit * P::kUnitColumns + i] = static_cast<int8_t>(P::weight(block.codes[i]));
    for (int i = 0; i < kGroups; ++i) {
      out.scales[unit * kGroups + i] = P::scale(block, i);
      if (P::kHasMin) out.minima[unit * kGroups + i] = P::minimum(block, i);
    }
  }
}

// What one block of activations adds to the total. column: the first of W that it meets.
template <class P>
float add_block(const IntegerRow& row, const ActBlock& x, int64_t column, float total) {
  constexpr int kGroup = P::kGroup;
  for (int first = 0; first < kFineBlock; first += kGroup) {
    int32_t dots = 0, sums = 0;
    for (int i = first; i < first + kGroup; ++i) {
      const int value = x.multipliers[i / kActBlock][0] * x.values[i];
      dots += value * row.weights[column + i];
      sums += value;
    }
    const int64_t group = (column + first) / kGroup;
    if (P::kHasMin) total = std::fma(row.minima[group], static_cast<float>(sums), total);
    total = std::fma(static_cast<float>(dots), row.scales[group], total);
  }
  return total;
}

template <class P>
float dot_int8(const IntegerRow& row, const QuantizedRows& all, int64_t token) {
  const ActBlock* x = all.blocks + token * all.stride();
  const int64_t num_blocks = all.cols / kFineBlock;
  float total = 0;
  for (int64_t i = 0; i < all.num_fine; ++i)
    total = add_block<P>(row, x[num_blocks + i], int64_t{all.fine_blocks[i]} * kFineBlock, total);
  if (all.num_fine > 0) total *= kRestScale;
  for (int64_t i = 0; i < num_blocks; ++i) total = add_block<P>(row, x[i], i * kFineBlock, total);
  return total * all.scales[token];
}

template <class P>
void int8_of(const LinearCall& call, const QuantizedRows& x) {
  const int64_t cols = call.weights.cols();
  const int64_t groups = cols / P::kGroup;
  auto* floats = reinterpret_cast<float*>(
      call.scratch.bytes(static_cast<size_t>(groups) * 2 * sizeof(float) + cols));
  const IntegerRow row{reinterpret_cast<int8_t*>(floats + 2 * groups), floats, floats + groups};
  for_each_row(call, [&](int64_t index) {
    unpack_row<P>(call.weights, index, row);
    for (int64_t token = 0; token < call.num_rows; ++token)
      write(call, token, index, dot_int8<P>(row, x, token));
  });
}

void int8(const LinearCall& call, const QuantizedRows& x) {
  quant::visit_panel(call.weights.format(), call.weights.is_sparse(),
                     [&]<class F, class P>() { int8_of<P>(call, x); });
}

// The tightest bounds of all: the results.
void screen(const LinearCall& call, const QuantizedRows& x, BestRows* best) {
  int8(call, x);
  for_each_row(call, [&](int64_t row) {
    for (int64_t token = 0; token < call.num_rows; ++token) {
      const float bound = call.out.data[token * call.out.stride + row];
      if (bound > best[token].floor) best[token].offer(bound, row);
    }
  });
}

void f32(const LinearCall& call, const float* x, int64_t x_stride) {
  const int64_t cols = call.weights.cols();
  auto* weights =
      reinterpret_cast<float*>(call.scratch.bytes(static_cast<size_t>(cols) * sizeof(float)));
  for_each_row(call, [&](int64_t index) {
    call.weights.dequantize_row(index, weights);
    for (int64_t token = 0; token < call.num_rows; ++token) {
      float total = 0;
      for (int64_t i = 0; i < cols; ++i)
        total = std::fma(weights[i], x[token * x_stride + i], total);
      write(call, token, index, total);
    }
  });
}

}  // namespace

const LinearTable& linear_table() {
  static constexpr LinearTable table{row_scale, quantize_blocks, quantize_rest, int8, f32, screen};
  return table;
}

}  // namespace plait::generic
