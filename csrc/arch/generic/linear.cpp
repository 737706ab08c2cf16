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

void quantize_block(const float* x, int8_t* values, float* scale, int16_t* sums) {
  float largest = 0;
  for (int i = 0; i < kActBlock; ++i) {
    const float magnitude = std::fabs(x[i]);
    const float finite = magnitude <= kLargestMagnitude ? magnitude : kLargestMagnitude;
    largest = finite > largest ? finite : largest;
  }
  const bool is_zero = largest < kSmallestMagnitude;
  const float inverse = is_zero ? 0.0f : 127.0f / largest;
  *scale = is_zero ? 0.0f : largest / 127.0f;
  *sums = 0;
  for (int i = 0; i < kActBlock; ++i) {
    const float scaled = x[i] * inverse;
    const float above = scaled >= -127.0f ? scaled : -127.0f;  // not-a-number too
    values[i] = static_cast<int8_t>(round_even(above <= 127.0f ? above : 127.0f));
    *sums = static_cast<int16_t>(*sums + values[i]);
  }
}

void quantize_row(const float* x, int64_t cols, int8_t* values, float* scales, int16_t* sums) {
  for (int64_t block = 0; block < cols / kActBlock; ++block)
    quantize_block(x + block * kActBlock, values + block * kActBlock, scales + block, sums + block);
}

void quantize_rest(const float* x, const int8_t* values, const float* scales, int8_t* rest,
                   float* rest_scales, int16_t* rest_sums) {
  float left[kFineBlock];
  for (int i = 0; i < kFineBlock; ++i)
    left[i] = std::fma(static_cast<float>(-values[i]), scales[i / kActBlock], x[i]);
  quantize_row(left, kFineBlock, rest, rest_scales, rest_sums);
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
  quant::Planes::load(panel + unit * quant::Planes::kHighBytes,
                      matrix.low_panel(row / kPanelRows) + unit * quant::Planes::kLowBytes, lane,
                      block);
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

template <class P>
float dot_int8(const IntegerRow& row, const QuantizedRows& all, int64_t token) {
  constexpr int kGroup = P::kGroup;
  const int8_t* x = all.values + token * all.stride();
  const float* x_scales = all.scales + token * (all.stride() / kActBlock);
  float total = 0, low = 0;
  for (int64_t at = 0; at < all.stride(); at += kGroup) {
    const int64_t rest = at - all.cols;
    const int64_t column =
        rest < 0 ? at : all.fine_blocks[rest / kFineBlock] * kFineBlock + rest % kFineBlock;
    float sums = 0;
    for (int64_t first = 0; first < kGroup; first += kActBlock) {
      int dot = 0, sum = 0;
      for (int64_t i = first; i < first + kActBlock; ++i) {
        dot += row.weights[column + i] * x[at + i];
        sum += x[at + i];
      }
      const float x_scale = x_scales[(at + first) / kActBlock];
      total = std::fma(static_cast<float>(dot), row.scales[column / kGroup] * x_scale, total);
      sums += x_scale * static_cast<float>(sum);
    }
    if (P::kHasMin) low = std::fma(row.minima[column / kGroup], sums, low);
  }
  return P::kHasMin ? total + low : total;
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
  static constexpr LinearTable table{quantize_row, quantize_rest, int8, f32, screen};
  return table;
}

}  // namespace plait::generic
