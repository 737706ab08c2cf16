// The screen of a matrix in two planes: bounds of every result from the high plane alone.
#pragma once

#include "linear_int8.h"
#include "plait/screen.h"
#include "quant/planes.h"

namespace plait::PLAIT_ISA {
namespace {

// The high plane as a matrix of its own: the low bits are taken for the middle of their range.
template <class F>
struct HighBits : Packed<typename quant::Planes<F>::High> {
  using High = typename quant::Planes<F>::High;
  static constexpr int kOffset = 0;
  static constexpr bool kHasOffset = false;
  static constexpr bool kHasMin = true;

  static PLAIT_INLINE Floats minimum(Cursor unit, int block, int group) {
    return mul(Packed<High>::scale(unit, block, group), splat(7.5f / 16.0f - High::kOffset));
  }
};

// The product with the high plane, whose weight 16 (high - offset) + 7.5 is the middle of what the
// whole weight can be; and per row of W
//   spread = sum over the groups of columns that share a scale of scale^2 |x|^2
template <class F>
class Screen {
  using S = HighBits<F>;
  // Rests of fine blocks are left out: they are as small as the rounding of the others is. What
  // they may add goes into the spread, where the largest weight counts as the low bits do.
  static constexpr float kLargestWeight = 1 << (F::kBits - 1);
  static constexpr float kRest = kLargestWeight * kLargestWeight * 12.0f / 255.0f;

 public:
  Screen(const LinearCall& call, const QuantizedRows& x, BestRows* best)
      : call_(call),
        x_(x),
        best_(best),
        panels_(call),
        num_blocks_(call.weights.cols() / 32),
        num_groups_(num_blocks_ * S::kGroups) {
    prepare();
  }

  void run() {
    if (call_.num_rows == 1) return walk<4, 1>();
    if (call_.num_rows == 2) return walk<4, 2>();
    walk<2, kDecodeTokens<S>>();
  }

 private:
  // Scratch: the squares of all groups.
  void prepare() {
    const int64_t rows = call_.num_rows;
    squares_ = reinterpret_cast<float*>(
        call_.scratch.bytes(static_cast<size_t>(rows * num_groups_) * sizeof(float)));
    for (int64_t row = 0; row < rows; ++row) add_up(row);
    in_ = {.weights = {},
           .rows = {},
           .tokens = {x_.blocks, x_.scales, x_.stride()},
           .first_token = 0,
           .num_blocks = num_blocks_,
           .fine_blocks = nullptr,
           .num_fine = 0,
           .out = &call_.out,
           .row_end = panels_.row_end(),
           .ahead = nullptr,
           .ahead_per_block = 0};
  }

  void add_up(int64_t row) {
    const ActBlock* blocks = x_.blocks + row * x_.stride();
    const float scale = x_.scales[row];
    float* squares = squares_ + row * num_groups_;
    for (int64_t i = 0; i < num_groups_; ++i) squares[i] = 0;
    for (int64_t i = 0; i < num_blocks_; ++i) add_squares(blocks[i], scale, 1.0f, squares, i);
    for (int64_t i = 0; i < x_.num_fine; ++i)
      add_squares(blocks[num_blocks_ + i], kRestScale * scale, kRest, squares, x_.fine_blocks[i]);
  }

  // Adds |x|^2 of a block, so many times, to its groups.
  static void add_squares(const ActBlock& x, float scale, float times, float* squares,
                          int64_t block) {
    for (int half = 0; half < 2; ++half) {
      int sum = 0;
      for (int i = half * kActBlock; i < (half + 1) * kActBlock; ++i)
        sum += x.values[i] * x.values[i];
      const float step = static_cast<float>(x.multipliers[half][0]) * scale;
      squares[block * S::kGroups + half * S::kGroups / 2] +=
          times * step * step * static_cast<float>(sum);
    }
  }

  void point(int index, int64_t vector) {
    in_.weights[index] = panels_.cursor(vector);
    in_.rows[index] = panels_.first_row(vector);
  }

  // As Int8Linear::decode.
  template <int kVectors, int kMaxTokens>
  void walk() {
    const int64_t share = panels_.num_vectors() / kVectors;
    for (int64_t i = 0; i < share; ++i) {
      for (int v = 0; v < kVectors; ++v) point(v, v * share + i);
      run_tokens<kVectors, kMaxTokens>();
    }
    for (int64_t i = share * kVectors; i < panels_.num_vectors(); ++i) {
      point(0, i);
      run_tokens<1, kMaxTokens>();
    }
  }

  template <int kVectors, int kMaxTokens>
  void run_tokens() {
    for (int64_t first = 0; first < call_.num_rows; first += kMaxTokens) {
      const int64_t left = call_.num_rows - first;
      unroll<kMaxTokens>([&](auto index) PLAIT_LAMBDA {
        constexpr int kTokens = index.value + 1;
        if (left == kTokens || (left > kTokens && kTokens == kMaxTokens))
          tile<kVectors, kTokens>(first);
      });
    }
  }

  template <int kVectors, int kTokens>
  [[gnu::noinline]] void tile(int64_t first) {
    Tile<S, kVectors, kTokens> tile;
    const Tokens x = in_.tokens.from(first);
    tile.start();
    for_each_block<S, kVectors>(
        in_,
        [&](const Cursor(&unit)[kVectors], int block, int64_t at)
            PLAIT_LAMBDA { tile.add_block(unit, block, x, at); },
        []() PLAIT_LAMBDA {});
    for (int v = 0; v < kVectors; ++v) {
      Floats spread[kTokens];
      add_spread(in_.weights[v], squares_ + first * num_groups_, spread);
      for (int t = 0; t < kTokens; ++t)
        finish(first + t, in_.rows[v], mul(tile.total[v][t], splat(16.0f * x.scales[t])),
               spread[t]);
    }
  }

  template <int kTokens>
  PLAIT_INLINE void add_spread(Cursor unit, const float* squares, Floats (&spread)[kTokens]) {
    for (int t = 0; t < kTokens; ++t) spread[t] = splat(0.0f);
    for (int64_t at = 0; at < num_groups_; unit = advance<S>(unit, 1))
      for (int group = 0; group < S::kUnitBlocks * S::kGroups; ++group, ++at) {
        const Floats scale = S::scale(unit, 0, group), squared = mul(scale, scale);
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t)
          spread[t] = fma(squared, splat(squares[t * num_groups_ + at]), spread[t]);
      }
  }

  void finish(int64_t token, int64_t row, Floats middle, Floats spread) {
    const Floats half = mul(sqrt(spread), splat(kScreenMargin));
    const Floats low = add(middle, negate(half));
    const int64_t count = in_.row_end - row;
    store_rows(call_.out.data + token * call_.out.stride + row, add(middle, half), count);
    BestRows& best = best_[token];
    if (!any_above(low, best.floor)) return;
    alignas(kVectorBytes) float lower[kVectorRows];
    store_aligned(lower, low);
    for (int64_t i = 0; i < kVectorRows && i < count; ++i)
      if (lower[i] > best.floor) best.offer(lower[i], row + i);
  }

  const LinearCall& call_;
  const QuantizedRows& x_;
  BestRows* best_;
  const VectorRange panels_;
  const int64_t num_blocks_;
  const int64_t num_groups_;  // of columns that share a scale
  TileInput in_{};
  float* squares_ = nullptr;  // |x|^2 of each group, [num_rows][num_groups]
};

}  // namespace
}  // namespace plait::PLAIT_ISA
