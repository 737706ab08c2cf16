// The screen of a matrix in two planes: bounds of every result from the high plane alone.
#pragma once

#include "linear_int8.h"
#include "plait/screen.h"
#include "quant/planes.h"

namespace plait::PLAIT_ISA {
namespace {

// The high plane as a matrix of its own, but for what every code lacks.
template <class F>
struct HighBits : Packed<typename quant::Planes<F>::High> {
  static constexpr int kOffset = 0;
  static constexpr bool kHasOffset = false;
  // The low bits are taken for the middle of their range.
  static constexpr float kLacking = 7.5f / 16.0f - quant::Planes<F>::High::kOffset;
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
  // What the screen needs of the activations that share a scale of the weights.
  struct Group {
    float lacking;  // what each weight's code lacks, times the sum of them, without the row's scale
    float square;   // |x|^2
  };

  // Scratch: the groups of all rows.
  void prepare() {
    const int64_t rows = call_.num_rows;
    groups_ = reinterpret_cast<Group*>(
        call_.scratch.bytes(static_cast<size_t>(rows * num_groups_) * sizeof(Group)));
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
    Group* groups = groups_ + row * num_groups_;
    for (int64_t i = 0; i < num_groups_; ++i) groups[i] = {0, 0};
    for (int64_t i = 0; i < num_blocks_; ++i) {
      for (int half = 0; half < 2; ++half) {
        const int sum = half == 0 ? blocks[i].first_sum : blocks[i].sum - blocks[i].first_sum;
        Group& group = groups[i * S::kGroups + half * S::kGroups / 2];
        group.lacking += S::kLacking * static_cast<float>(sum);
        group.square += square(blocks[i], half, scale);
      }
    }
    for (int64_t i = 0; i < x_.num_fine; ++i)
      for (int half = 0; half < 2; ++half)
        groups[x_.fine_blocks[i] * S::kGroups + half * S::kGroups / 2].square +=
            kRest * square(blocks[num_blocks_ + i], half, kRestScale * scale);
  }

  // |x|^2 of half a block.
  static float square(const ActBlock& x, int half, float scale) {
    int sum = 0;
    for (int i = half * kActBlock; i < (half + 1) * kActBlock; ++i)
      sum += x.values[i] * x.values[i];
    const float step = static_cast<float>(x.multipliers[half][0]) * scale;
    return step * step * static_cast<float>(sum);
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

  // As even as run_tiles.
  template <int kVectors, int kMaxTokens>
  void run_tokens() {
    const int64_t num_tiles = (call_.num_rows + kMaxTokens - 1) / kMaxTokens;
    for (int64_t i = 0; i < num_tiles; ++i) {
      const int64_t first = call_.num_rows * i / num_tiles;
      const int64_t count = call_.num_rows * (i + 1) / num_tiles - first;
      unroll<kMaxTokens>([&](auto index) PLAIT_LAMBDA {
        if (count == index.value + 1) tile<kVectors, index.value + 1>(first);
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
    // Two vectors together: one with a single token would wait for its own sums.
    constexpr int kTogether = kVectors > 1 && kTokens <= 2 ? 2 : 1;
    for (int v = 0; v < kVectors; v += kTogether)
      finish_all<kTogether, kTokens>(first, in_.weights + v, in_.rows + v, tile.total + v);
  }

  // Adds what the codes lack and finds the spread, from the scales alone.
  template <int kVectors, int kTokens>
  PLAIT_INLINE void finish_all(int64_t first, const Cursor* weights, const int64_t* rows,
                               Floats (*total)[kTokens]) {
    const Group* groups = groups_ + first * num_groups_;
    Floats spread[kVectors][kTokens];
    Cursor unit[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      unit[v] = weights[v];
      for (int t = 0; t < kTokens; ++t) spread[v][t] = splat(0.0f);
    }
    for (int64_t at = 0; at < num_groups_;) {
      for (int group = 0; group < S::kUnitBlocks * S::kGroups; ++group, ++at)
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) {
          const Floats scale = S::scale(unit[v], 0, group), squared = mul(scale, scale);
#pragma GCC unroll 8
          for (int t = 0; t < kTokens; ++t) {
            const Group& x = groups[t * num_groups_ + at];
            total[v][t] = fma(scale, splat(x.lacking), total[v][t]);
            spread[v][t] = fma(squared, splat(x.square), spread[v][t]);
          }
        }
      for (int v = 0; v < kVectors; ++v) unit[v] = advance<S>(unit[v], 1);
    }
    for (int v = 0; v < kVectors; ++v)
      for (int t = 0; t < kTokens; ++t)
        finish(first + t, rows[v], mul(total[v][t], splat(16.0f * x_.scales[first + t])),
               spread[v][t]);
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
  Group* groups_ = nullptr;  // [num_rows][num_groups]
};

}  // namespace
}  // namespace plait::PLAIT_ISA
