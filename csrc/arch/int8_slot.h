// One slot's key and value as int8. Keys are rotated by a Hadamard matrix first (and queries with
// them, which leaves their products as they are): it spreads the few columns that are much larger
// than the others, and halves the error (QuaRot, arXiv:2404.00456).
#pragma once

#include "plait/rows.h"
#include "vec8.h"

namespace plait::PLAIT_ISA {
namespace {

// Values beyond the range of f16 are clamped: an infinity in a page would spoil rows that mask it
// out.
inline Vec within_half(Vec a) {
  return max(min(a, splat(65504.0f)), splat(-65504.0f));
}

// The order of the Hadamard matrix: the largest power of two that divides the head's columns.
constexpr int rotation_order(int head_dim) {
  return head_dim & -head_dim;
}

template <int Distance>
inline Vec butterfly(Vec a, Vec signs) {
  return fma(a, signs, swap_lanes<Distance>(a));
}

// out = x times a block diagonal Hadamard matrix of +1 and -1; twice gives x times the order.
inline void rotate(const float* x, int head_dim, float* out) {
  const float signs[3][kLanes] = {
      {1, -1, 1, -1, 1, -1, 1, -1}, {1, 1, -1, -1, 1, 1, -1, -1}, {1, 1, 1, 1, -1, -1, -1, -1}};
  const Vec by_one = load(signs[0]), by_two = load(signs[1]), by_four = load(signs[2]);
  for (int i = 0; i < head_dim; i += kLanes) {
    Vec a = within_half(load(x + i));
    a = butterfly<1>(a, by_one);
    a = butterfly<2>(a, by_two);
    store(out + i, butterfly<4>(a, by_four));
  }
  for (int distance = kLanes; distance < rotation_order(head_dim); distance *= 2)
    for (int i = 0; i < head_dim; i += kLanes) {
      if (i & distance) continue;
      const Vec a = load(out + i), b = load(out + i + distance);
      store(out + i, add(a, b));
      store(out + i + distance, sub(a, b));
    }
}

// Finite x as integers in [-127, 127]; returns their scale.
inline float quantize_slot(const float* x, int count, int8_t* out) {
  Vec largest = splat(0.0f);
  for (int i = 0; i < count; i += kLanes) {
    const Vec a = load(x + i);
    largest = max(largest, max(a, sub(splat(0.0f), a)));
  }
  const float most = max_lanes(largest);
  const Vec inverse = splat(most > 0.0f ? 127.0f / most : 0.0f);
  for (int i = 0; i < count; i += kLanes) {
    float whole[kLanes];
    store(whole, round_even(mul(load(x + i), inverse)));
    for (int j = 0; j < kLanes; ++j) out[i + j] = static_cast<int8_t>(whole[j]);
  }
  return most / 127.0f;
}

void store_int8(const float* k, const float* v, int head_dim, int slot, int8_t* keys,
                int8_t* values) {
  float x[kMaxHeadDim];
  int8_t whole[kMaxHeadDim];
  const int scale = kPage * head_dim + slot * static_cast<int>(sizeof(float));
  rotate(k, head_dim, x);
  const float k_scale = quantize_slot(x, head_dim, whole);
  std::memcpy(keys + scale, &k_scale, sizeof k_scale);
  for (int d = 0; d < head_dim; d += 2) std::memcpy(keys + d * kPage + slot * 2, whole + d, 2);
  for (int d = 0; d < head_dim; d += kLanes) store(x + d, within_half(load(v + d)));
  const float v_scale = quantize_slot(x, head_dim, whole);
  std::memcpy(values + scale, &v_scale, sizeof v_scale);
  int8_t* pairs = values + slot / 2 * 2 * head_dim + slot % 2;
  for (int d = 0; d < head_dim; ++d) pairs[2 * d] = whole[d];
}

}  // namespace
}  // namespace plait::PLAIT_ISA
