// The kernels of one format, each instantiated in one of the linear_*.inl files.
#pragma once

#include "ops/linear_table.h"

namespace plait::PLAIT_ISA {

template <class F>
void linear_int8_of(const LinearCall& call, const QuantizedRows& x);

void linear_planes(const LinearCall& call, const QuantizedRows& x);
void screen_planes(const LinearCall& call, const QuantizedRows& x, BestRows* best);

template <class F>
void linear_sparse_of(const LinearCall& call, const QuantizedRows& x);

template <class F>
void linear_f32_of(const LinearCall& call, const float* x, int64_t x_stride);

template <Format kFormat>
void linear_f32_of(const LinearCall& call, const float* x, int64_t x_stride);

}  // namespace plait::PLAIT_ISA
