// The int8 path of one source of weights: which tiles to run over which panels.
#pragma once

#include "linear_tile.h"

namespace plait::PLAIT_ISA {
namespace {

// Tokens that share one expansion: enough to make it cheap, few enough to stay in the second cache.
constexpr int64_t kTokenBlock = 128;

// How wide the tiles are: as many sums as the registers hold. Under the sanitizers tiles of two
// test the same templates and compile in a fraction of the time.
#if defined(__SANITIZE_ADDRESS__)
template <class S>
constexpr int kDecodeTokens = 2;
template <class S>
constexpr int kTileTokens = 2;
#else
template <class S>
constexpr int kDecodeTokens = S::kIsSparse ? 8 : 6;
template <class S>
constexpr int kTileTokens = S::kIsSparse ? 8 : 4;
#endif

template <class S>
class Int8Linear {
 public:
  Int8Linear(const LinearCall& call, const QuantizedRows& x)
      : call_(call), x_(x), panels_(call), cols_(call.weights.cols()) {
    prepare(x);
  }

  void run() {
    if (call_.num_rows == 1) return decode<4, 1>();
    if (call_.num_rows >= call_.expand_from) return expand_all();
    if (call_.num_rows == 2) return decode<4, 2>();
    decode<2, kDecodeTokens<S>>();
  }

 private:
  using E = ExpandedOf<S>;
  static constexpr int64_t kBytesPerBlock = S::kUnitBytes / S::kUnitBlocks;

  void expand_all() const {
    for (int64_t token = 0; token < call_.num_rows; token += kTokenBlock) {
      const int64_t left = call_.num_rows - token;
      expand_and_multiply(token, left < kTokenBlock ? left : kTokenBlock);
    }
  }

  // Scratch: two vectors of expanded panels, and the shifted activations of all tokens.
  void prepare(const QuantizedRows& x) {
    const auto num_blocks = static_cast<size_t>(S::kShifts ? call_.num_rows * x.stride() : 0);
    expanded_ = call_.scratch.bytes(2 * expanded_bytes() + num_blocks * sizeof(ActBlock));
    tokens_ = {x.blocks, x.scales, x.stride()};
    if constexpr (S::kShifts) {
      auto* shifted = reinterpret_cast<ActBlock*>(expanded_ + 2 * expanded_bytes());
      for (size_t i = 0; i < num_blocks; ++i) {
        shifted[i] = x.blocks[i];
        for (int8_t& value : shifted[i].values) value ^= -128;
      }
      tokens_.blocks = shifted;
    }
  }

  size_t expanded_bytes() const { return static_cast<size_t>(cols_ / 32) * E::kUnitBytes; }

  TileInput input() const {
    return {.weights = {},
            .rows = {},
            .tokens = tokens_,
            .first_token = 0,
            .num_blocks = cols_ / 32,
            .fine_blocks = x_.fine_blocks,
            .num_fine = x_.num_fine,
            .out = &call_.out,
            .row_end = panels_.row_end(),
            .ahead = nullptr,
            .ahead_per_block = 0};
  }

  void point(TileInput& in, int index, int64_t vector) const {
    in.weights[index] = panels_.cursor(vector);
    in.rows[index] = panels_.first_row(vector);
  }

  // A few tokens: decodes the weights for every tile. The vectors of a tile come from distant parts
  // of the range, so that as many streams of memory are open.
  template <int kVectors, int kMaxTokens>
  void decode() const {
    TileInput in = input();
    const int64_t share = panels_.num_vectors() / kVectors;
    for (int64_t i = 0; i < share; ++i) {
      for (int v = 0; v < kVectors; ++v) point(in, v, v * share + i);
      run_tiles<S, kVectors, kMaxTokens>(in, call_.num_rows);
    }
    for (int64_t i = share * kVectors; i < panels_.num_vectors(); ++i) {
      point(in, 0, i);
      run_tiles<S, 1, kMaxTokens>(in, call_.num_rows);
    }
  }

  // Two vectors at a time; a last odd one is decoded instead.
  void expand_and_multiply(int64_t token, int64_t count) const {
    TileInput in = input();
    in.tokens = tokens_.from(token);
    in.first_token = token;
    const int64_t even = panels_.num_vectors() / 2 * 2;
    for (int64_t i = 0; i < even; i += 2) {
      for (int v = 0; v < 2; ++v) {
        uint8_t* bytes = expanded_ + static_cast<size_t>(v) * expanded_bytes();
        expand<S>(panels_.cursor(i + v), cols_, bytes);
        in.weights[v] = {bytes, 0};
        in.rows[v] = panels_.first_row(i + v);
      }
      if (i + 2 < panels_.num_vectors()) {
        in.ahead = panels_.cursor(i + 2).at;
        in.ahead_per_block = 2 * kVectorPanels * kBytesPerBlock;
      }
      run_tiles<E, 2, kTileTokens<S>>(in, count);
    }
    if (even == panels_.num_vectors()) return;
    point(in, 0, even);
    run_tiles<S, 1, kDecodeTokens<S>>(in, count);
  }

  const LinearCall& call_;
  const QuantizedRows& x_;
  const VectorRange panels_;
  const int64_t cols_;
  Tokens tokens_{};
  uint8_t* expanded_ = nullptr;
};

}  // namespace

template <class F>
void linear_int8_of(const LinearCall& call, const QuantizedRows& x) {
  Int8Linear<Packed<F>>(call, x).run();
}

}  // namespace plait::PLAIT_ISA
