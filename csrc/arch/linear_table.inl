// The table of one vector instruction set.
#include "linear_entry.h"
#include "linear_quantize.h"
#include "quant/sparse_panel.h"

namespace plait::PLAIT_ISA {
namespace {

void int8(const LinearCall& call, const QuantizedRows& x) {
  if (call.weights.has_planes()) return linear_planes(call, x);
  if (call.weights.is_sparse())
    return quant::visit_sparse(call.weights.format(),
                               [&]<class F>() { linear_sparse_of<F>(call, x); });
  quant::visit(call.weights.format(), [&]<class F>() { linear_int8_of<F>(call, x); });
}

void f32(const LinearCall& call, const float* x, int64_t x_stride) {
  switch (call.weights.format()) {
    case Format::f32:
      return linear_f32_of<Format::f32>(call, x, x_stride);
    case Format::f16:
      return linear_f32_of<Format::f16>(call, x, x_stride);
    case Format::bf16:
      return linear_f32_of<Format::bf16>(call, x, x_stride);
    default:
      quant::visit(call.weights.format(), [&]<class F>() { linear_f32_of<F>(call, x, x_stride); });
  }
}

}  // namespace

const LinearTable& linear_table() {
  static constexpr LinearTable table{row_scale, quantize_blocks, quantize_rest, int8,
                                     f32,       screen_planes};
  return table;
}

}  // namespace plait::PLAIT_ISA
