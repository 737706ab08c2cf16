// Attention tiles over int8 pages. K is [head_dim / 2][32][2] and V [16][head_dim][2], so that one
// multiply-add of int16 pairs takes two columns (two slots) of eight slots (columns); a float scale
// per slot follows each. Queries and softmax weights are int16: their rounding is far below that of
// K and V, and all sums are exact.
#pragma once

#include "attention_float.h"
#include "int_pairs.h"

namespace plait::PLAIT_ISA {
namespace {

constexpr float kLargestInt16 = 32767.0f;  // 512 columns * 127 * 32767 still fits 32 bits

// Both addition chains are short: few accumulators do, but a single row needs four.
template <int R>
constexpr int kIntVecs = R <= 2 ? 4 : 2;

inline const float* scales_of(const int8_t* page, int head_dim) {
  return reinterpret_cast<const float*>(page + kPage * head_dim);
}

// x rotated as the keys are, as int16; returns what one of them is worth in a product with a key.
inline float quantize_query(const float* x, int head_dim, int16_t* out) {
  float rotated[kMaxHeadDim];
  rotate(x, head_dim, rotated);
  Vec largest = splat(0.0f);
  for (int i = 0; i < head_dim; i += kLanes) {
    const Vec a = load(rotated + i);
    largest = max(largest, max(a, sub(splat(0.0f), a)));
  }
  const float most = max_lanes(largest);
  const Vec inverse = splat(most > 0.0f ? kLargestInt16 / most : 0.0f);
  for (int i = 0; i < head_dim; i += kLanes)
    store_rounded(out + i, mul(load(rotated + i), inverse));
  return most / kLargestInt16 / static_cast<float>(rotation_order(head_dim));
}

// scores[r][t] = q_r . k_t, in units of the row's query scale.
template <int R, int N>
__attribute__((noinline)) void score_slots_int8(const int16_t* q, const int8_t* k, int head_dim,
                                                const float* scales, const int8_t* ahead,
                                                float* scores) {
  Ints acc[R][N];
#pragma GCC unroll 8
  for (auto& row : acc)
#pragma GCC unroll 8
    for (Ints& a : row) a = no_ints();
  for (int d = 0; d < head_dim; d += 2, k += 2 * kPage, ahead += 2 * kPage) {
    fetch(ahead);
    decltype(load_pairs(k)) keys[N];
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) keys[j] = load_pairs(k + j * 2 * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const auto query = splat_pair(q + r * head_dim + d);
#pragma GCC unroll 8
      for (int j = 0; j < N; ++j) acc[r][j] = add_products(acc[r][j], keys[j], query);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j)
      store(scores + r * kPage + j * kLanes, mul(to_floats(acc[r][j]), load(scales + j * kLanes)));
}

template <int R>
void score_tile_int8(const int16_t* q, const int8_t* k, int head_dim, int count,
                     const int8_t* ahead, float* scores) {
  constexpr int kStep = kIntVecs<R> * kLanes;
  for (int t = 0; t < count; t += kStep)
    score_slots_int8<R, kIntVecs<R>>(q, k + 2 * t, head_dim, scales_of(k, head_dim) + t,
                                     ahead + 2 * t, scores + t);
}

// weights[t] * scales[t] as int16; returns what one of them is worth.
inline float quantize_weights(const float* weights, const float* scales, int16_t* out) {
  Vec x[kPageVecs];
  for (int j = 0; j < kPageVecs; ++j)
    x[j] = mul(load(weights + j * kLanes), load(scales + j * kLanes));
  const float most = max_lanes(max(max(x[0], x[1]), max(x[2], x[3])));
  const Vec inverse = splat(most > 0.0f ? kLargestInt16 / most : 0.0f);
  for (int j = 0; j < kPageVecs; ++j) store_rounded(out + j * kLanes, mul(x[j], inverse));
  return most / kLargestInt16;
}

template <int R, int N>
__attribute__((noinline)) void value_columns_int8(const int16_t* weights, const float* units,
                                                  const ValuePage<int8_t>& page, int head_dim,
                                                  float* const* out, int column) {
  Ints acc[R][N];
#pragma GCC unroll 8
  for (auto& row : acc)
#pragma GCC unroll 8
    for (Ints& a : row) a = no_ints();
  const int8_t* v = page.v + 2 * column;
  const int8_t* ahead = page.ahead + 2 * column;
  for (int t = 0; t < page.count; t += 2, v += 2 * head_dim, ahead += 2 * head_dim) {
    fetch(ahead);
    decltype(load_pairs(v)) values[N];
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) values[j] = load_pairs(v + j * 2 * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const auto weight = splat_pair(weights + r * kPage + t);
#pragma GCC unroll 8
      for (int j = 0; j < N; ++j) acc[r][j] = add_products(acc[r][j], values[j], weight);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) {
      float* to = out[r] + column + j * kLanes;
      store(to, fma(to_floats(acc[r][j]), splat(units[r]), mul(load(to), splat(page.decay[r]))));
    }
}

// As value_tile of the float pages. Weights of slots that a row does not see are 0.
template <int R>
void value_tile_int8(const ValuePage<int8_t>& page, int head_dim, float* const* out) {
  int16_t whole[R * kPage];
  float units[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
    units[r] =
        quantize_weights(page.weights + r * kPage, scales_of(page.v, head_dim), whole + r * kPage);
  constexpr int kVecs = kIntVecs<R>;
  int column = 0;
  for (; column + kVecs * kLanes <= head_dim; column += kVecs * kLanes)
    value_columns_int8<R, kVecs>(whole, units, page, head_dim, out, column);
  for (; column < head_dim; column += kLanes)
    value_columns_int8<R, 1>(whole, units, page, head_dim, out, column);
}

}  // namespace
}  // namespace plait::PLAIT_ISA
