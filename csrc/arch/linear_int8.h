// The int8 path of one format: which tiles to run over which panels.
#pragma once

#include "linear_tile.h"

namespace plait::PLAIT_ISA {
namespace {

// Below this many tokens decoding the weights for each tile is cheaper than storing them as bytes.
constexpr int64_t kExpandFrom = 32;
// Tokens that share one expansion: enough to make it cheap, few enough to stay in the second cache.
constexpr int64_t kTokenBlock = 126;

// How wide the tiles are: as many sums as the registers hold. Under the sanitizers a tile of two
// tests the same template and compiles in minutes instead of an hour.
#if defined(__SANITIZE_ADDRESS__)
template <class S>
constexpr int kTileTokens = 2;
#else
template <class S>
constexpr int kTileTokens = S::kSignTrick || S::kLargest > 31 ? 4 : 6;
#endif

template <class F>
class Int8Linear {
 public:
  Int8Linear(const LinearCall& call, const QuantizedRows& x)
      : call_(call), panels_(call), cols_(call.weights.cols()) {
    prepare(x);
  }

  void run() {
    if (call_.num_rows == 1) return stream();
    if (call_.num_rows < kExpandFrom) return decode();
    for (int64_t token = 0; token < call_.num_rows; token += kTokenBlock) {
      const int64_t left = call_.num_rows - token;
      expand_and_multiply(token, left < kTokenBlock ? left : kTokenBlock);
    }
  }

 private:
  using S = Packed<F>;
  using E = ExpandedOf<F>;

  // Scratch: sums of all tokens, then two vectors of expanded panels.
  void prepare(const QuantizedRows& x) {
    const int64_t per_token = cols_ / S::kGroup;
    const size_t side = static_cast<size_t>((call_.num_rows * per_token * 4 + 63) / 64 * 64);
    uint8_t* scratch = call_.scratch.bytes(side + 2 * expanded_bytes());
    expanded_ = scratch + side;
    tokens_ = {x.values, x.scales, nullptr, nullptr, cols_};
    if constexpr (S::kHasOffset) {
      auto* offsets = reinterpret_cast<int32_t*>(scratch);
      for (int64_t i = 0; i < call_.num_rows * per_token; ++i) offsets[i] = -S::kOffset * sum(x, i);
      tokens_.offsets = offsets;
    }
    if constexpr (S::kHasMin) {
      auto* sums = reinterpret_cast<float*>(scratch);
      for (int64_t i = 0; i < call_.num_rows * per_token; ++i)
        sums[i] = x.scales[i * S::kGroup / 32] * static_cast<float>(sum(x, i));
      tokens_.sums = sums;
    }
  }

  static PLAIT_INLINE int sum(const QuantizedRows& x, int64_t group) {
    if constexpr (S::kGroup == 16) return x.sums[group];
    return x.sums[2 * group] + x.sums[2 * group + 1];
  }

  size_t expanded_bytes() const { return static_cast<size_t>(cols_ / 32) * E::kUnitBytes; }

  TileInput input() const {
    return {.weights = {},
            .rows = {},
            .tokens = tokens_,
            .first_token = 0,
            .out = &call_.out,
            .row_end = panels_.row_end()};
  }

  void point(TileInput& in, int index, int64_t vector) const {
    in.weights[index] = panels_.cursor(vector);
    in.rows[index] = panels_.first_row(vector);
  }

  // One token: four distant parts of the range at once, so that four streams of memory are open.
  void stream() const {
    TileInput in = input();
    const int64_t quarter = panels_.num_vectors() / 4;
    for (int64_t i = 0; i < quarter; ++i) {
      for (int v = 0; v < 4; ++v) point(in, v, v * quarter + i);
      tile<S, 4, 1>(in);
    }
    for (int64_t i = 4 * quarter; i < panels_.num_vectors(); ++i) {
      point(in, 0, i);
      tile<S, 1, 1>(in);
    }
  }

  // A few tokens: decode each panel for every tile.
  void decode() const {
    TileInput in = input();
    for (int64_t i = 0; i < panels_.num_vectors(); ++i) {
      point(in, 0, i);
      run_tiles<S, 1, kTileTokens<S>>(in, call_.num_rows);
    }
  }

  // Two vectors at a time; a last odd one is decoded instead.
  void expand_and_multiply(int64_t token, int64_t count) const {
    TileInput in = input();
    in.tokens = tokens_.from(token, S::kGroup);
    in.first_token = token;
    const int64_t even = panels_.num_vectors() / 2 * 2;
    for (int64_t i = 0; i < even; i += 2) {
      for (int v = 0; v < 2; ++v) {
        uint8_t* bytes = expanded_ + static_cast<size_t>(v) * expanded_bytes();
        expand<F>(panels_.cursor(i + v), cols_, bytes);
        in.weights[v] = {bytes, 0};
        in.rows[v] = panels_.first_row(i + v);
      }
      run_tiles<E, 2, kTileTokens<S>>(in, count);
    }
    if (even == panels_.num_vectors()) return;
    point(in, 0, even);
    run_tiles<S, 1, kTileTokens<S>>(in, count);
  }

  const LinearCall& call_;
  const VectorRange panels_;
  const int64_t cols_;
  Tokens tokens_{};
  uint8_t* expanded_ = nullptr;
};

}  // namespace

template <class F>
void linear_int8_of(const LinearCall& call, const QuantizedRows& x) {
  Int8Linear<F>(call, x).run();
}

}  // namespace plait::PLAIT_ISA
