// Row kernels over Vec; see plait/rows.h for what each computes.
#pragma once

#include "int8_slot.h"

namespace plait::PLAIT_ISA {
namespace {

// The last n % 8 floats, zero filled.
inline Vec load_tail(const float* p, int64_t count) {
  float x[kLanes] = {};
  std::memcpy(x, p, static_cast<size_t>(count) * sizeof(float));
  return load(x);
}

// sum of f(x_i) for a Vec -> Vec f with f(0) = 0, lane by lane in order.
template <class F>
inline float sum_of(const float* x, int64_t n, F f) {
  Vec total = splat(0.0f);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) total = add(total, f(load(x + i)));
  if (i < n) total = add(total, f(load_tail(x + i, n - i)));
  return sum_lanes(total);
}

void rmsnorm(const float* x, const float* weight, float eps, int64_t n, const float* residual,
             float* out) {
  const float squares = sum_of(x, n, [](Vec a) { return mul(a, a); });
  const float scale = 1.0f / std::sqrt(squares / static_cast<float>(n) + eps);
  for (int64_t i = 0; i < n; ++i) {
    const float y = x[i] * scale * weight[i];
    out[i] = residual ? residual[i] + y : y;
  }
}

void layernorm(const float* x, const float* weight, const float* bias, float eps, int64_t n,
               float* out) {
  const float mean = sum_of(x, n, [](Vec a) { return a; }) / static_cast<float>(n);
  Vec total = splat(0.0f);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Vec d = sub(load(x + i), splat(mean));
    total = add(total, mul(d, d));
  }
  float squares = sum_lanes(total);
  for (; i < n; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const float scale = 1.0f / std::sqrt(squares / static_cast<float>(n) + eps);
  for (i = 0; i < n; ++i) out[i] = (x[i] - mean) * scale * weight[i] + (bias ? bias[i] : 0.0f);
}

// x / (1 + e^-(factor)), the sigmoid-weighted x.
inline Vec times_sigmoid(Vec x, Vec factor) {
  return div(x, add(splat(1.0f), exp(sub(splat(0.0f), factor))));
}

inline Vec activate(Activation activation, Vec x) {
  if (activation == Activation::silu) return times_sigmoid(x, x);
  if (activation == Activation::gelu_tanh) {
    // (1 + tanh u) / 2 = sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3)
    const Vec cubic = mul(mul(x, x), mul(x, splat(0.044715f)));
    return times_sigmoid(x, mul(splat(1.5957691216f), add(x, cubic)));
  }
  float y[kLanes];
  store(y, x);
  for (float& a : y) a = 0.5f * a * (1.0f + std::erf(a * 0.70710678f));
  return load(y);
}

void gated(Activation activation, const float* gate, const float* up, int64_t n, float* out) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    store(out + i, mul(activate(activation, load(gate + i)), load(up + i)));
  if (i == n) return;
  float y[kLanes];
  store(y, mul(activate(activation, load_tail(gate + i, n - i)), load_tail(up + i, n - i)));
  std::memcpy(out + i, y, static_cast<size_t>(n - i) * sizeof(float));
}

void add_rows(const float* x, const float* y, float alpha, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = alpha * x[i] + y[i];
}

void rope(float* x, int heads, int head_dim, int pairs, bool interleaved, const float* table) {
  const float* cosines = table;
  const float* sines = table + pairs;
  const int stride = interleaved ? 2 : 1;
  const int other = interleaved ? 1 : pairs;
  for (int h = 0; h < heads; ++h, x += head_dim) {
    for (int i = 0; i < pairs; ++i) {
      const float a = x[i * stride], b = x[i * stride + other];
      x[i * stride] = a * cosines[i] - b * sines[i];
      x[i * stride + other] = a * sines[i] + b * cosines[i];
    }
  }
}

void store_f16(const float* k, const float* v, int head_dim, uint16_t* keys, uint16_t* values) {
  for (int d = 0; d < head_dim; d += kLanes) {
    uint16_t half[kLanes];
    store(half, within_half(load(k + d)));
    for (int i = 0; i < kLanes; ++i) keys[(d + i) * kPage] = half[i];
    store(values + d, within_half(load(v + d)));
  }
}

void store_f32(const float* k, const float* v, int head_dim, float* keys, float* values) {
  for (int d = 0; d < head_dim; ++d) keys[d * kPage] = k[d];
  std::memcpy(values, v, head_dim * sizeof(float));
}

void store_kv(const float* k, const float* v, int head_dim, int slot, KvType type, void* k_page,
              void* v_page) {
  const int row = slot * head_dim;
  if (type == KvType::int8)
    store_int8(k, v, head_dim, slot, static_cast<int8_t*>(k_page), static_cast<int8_t*>(v_page));
  else if (type == KvType::f16)
    store_f16(k, v, head_dim, static_cast<uint16_t*>(k_page) + slot,
              static_cast<uint16_t*>(v_page) + row);
  else
    store_f32(k, v, head_dim, static_cast<float*>(k_page) + slot,
              static_cast<float*>(v_page) + row);
}

}  // namespace
}  // namespace plait::PLAIT_ISA
