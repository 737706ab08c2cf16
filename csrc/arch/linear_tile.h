// The inner kernel: kVectors vectors of panels times kTokens rows of activations, all of K.
//
// Every instance does the same operations in the same order for one element of the result, so
// results do not depend on the tile an element happens to fall into:
//   total = fma(float(integer dot of a group), scale * x scale, total)        group after group
//   low   = fma(minimum, x scale * float(sum of x in the group), low)         the same
//   total + low, + bias, + what was there
#pragma once

#include "linear_source.h"
#include "ops/linear_table.h"

namespace plait::PLAIT_ISA {
namespace {

constexpr int kMaxVectors = 4;
constexpr int64_t kPrefetchAhead = 1024;

// Activations of the tokens of a tile, and per group of columns what the format needs of their sum.
struct Tokens {
  const int8_t* values;    // [][cols]
  const float* scales;     // [][cols / 32]
  const int32_t* offsets;  // [][cols / group]: - offset * sum, formats with an offset
  const float* sums;       // [][cols / group]: scale * sum, formats with a minimum
  int64_t cols;

  Tokens from(int64_t token, int group) const {
    const int64_t step = token * (cols / group);
    return {values + token * cols, scales + token * (cols / 32),
            offsets == nullptr ? nullptr : offsets + step, sums == nullptr ? nullptr : sums + step,
            cols};
  }
};

struct TileInput {
  Cursor weights[kMaxVectors];
  int64_t rows[kMaxVectors];  // first row of W of each vector
  Tokens tokens;
  int64_t first_token;
  const LinearOutput* out;
  int64_t row_end;  // rows from here on are not written
};

// A call's panels as vectors of panels.
struct VectorRange {
  const PackedMatrix& matrix;
  int64_t begin;
  int64_t end;

  explicit VectorRange(const LinearCall& call)
      : matrix(call.weights), begin(call.panel_begin), end(call.panel_end) {}

  int64_t num_vectors() const { return (end - begin + kVectorPanels - 1) / kVectorPanels; }
  int64_t panel(int64_t vector) const { return begin + vector * kVectorPanels; }
  int64_t first_row(int64_t vector) const { return panel(vector) * kPanelRows; }
  int64_t row_end() const {
    return end * kPanelRows < matrix.rows() ? end * kPanelRows : matrix.rows();
  }
  // The last vector may have fewer panels than it has room for: it then sees the last one twice.
  Cursor cursor(int64_t vector) const {
    const bool has_next = kVectorPanels > 1 && panel(vector) + 1 < end;
    return {matrix.panel(panel(vector)), has_next ? static_cast<int64_t>(matrix.panel_bytes()) : 0};
  }
};

PLAIT_INLINE void emit(const LinearOutput& out, int64_t token, int64_t row, int64_t row_end,
                       Floats total) {
  const int64_t count = row_end - row;
  if (count <= 0) return;
  float* at = out.data + token * out.stride + row;
  if (out.bias != nullptr) total = add(total, load_rows(out.bias + row, count));
  if (out.accumulate) total = add(total, load_rows(at, count));
  store_rows(at, total, count);
}

// Integer dots of one group, accumulated chunk by chunk.
template <class S>
struct Accumulator {
  static constexpr int kChunks = S::kGroup / 4;
  // Products that fit into 16 bits when added there: |activation| <= 127, two per 16 bits.
  static constexpr int kFit = 32767 / (2 * 127 * S::kLargest);
  static constexpr int kRun = kFit >= kChunks ? kChunks : kFit >= 4 ? 4 : kFit >= 2 ? 2 : 1;

  Ints total;
  Ints pairs;

  template <int kChunk>
  PLAIT_INLINE void step(Bytes weights, Bytes magnitudes, Bytes x, const int32_t* offset) {
#if defined(PLAIT_HAS_DOT)
    (void)magnitudes;
    if constexpr (kChunk == 0) total = splat(S::kHasOffset ? *offset : 0);
    total = dot(total, weights, x);
    pin(total);
#else
    const Ints product =
        S::kSignTrick ? pair_dot(magnitudes, with_sign(x, weights)) : pair_dot(weights, x);
    pairs = kChunk % kRun == 0 ? product : add_pairs(pairs, product);
    if constexpr (kRun > 1) pin(pairs);
    if constexpr (kChunk % kRun == kRun - 1) {
      total = kChunk < kRun ? widen_pairs(pairs) : add(total, widen_pairs(pairs));
      if constexpr (kRun == 1) pin(total);
    }
    if constexpr (kChunk == kChunks - 1 && S::kHasOffset) total = add(total, splat(*offset));
#endif
  }
};

template <class S, int kVectors, int kTokens>
struct Tile {
  Floats total[kVectors][kTokens];
  Floats low[S::kHasMin ? kVectors : 1][kTokens];
  const int8_t* values[kTokens];

  // Chunk after chunk, all tokens: the weights pass through registers, the sums stay there.
  template <int kGroup>
  PLAIT_INLINE void dots(const Cursor (&block)[kVectors], const Tokens& x, int64_t group,
                         Accumulator<S> (&sums)[kVectors][kTokens]) {
    unroll<S::kGroup / 8>([&](auto step) PLAIT_LAMBDA {
      constexpr int kPair = kGroup * S::kGroup / 8 + step.value;
      Bytes weights[2][kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v)
        S::template pair<kPair>(block[v], weights[0][v], weights[1][v]);
      unroll<2>([&](auto half) PLAIT_LAMBDA {
        Bytes magnitudes[kVectors];
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) magnitudes[v] = magnitude(weights[half.value][v]);
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t) {
          const Bytes a = splat_chunk(values[t] + 8 * kPair + 4 * half.value);
          const int32_t* offset =
              S::kHasOffset ? x.offsets + t * (x.cols / S::kGroup) + group : nullptr;
#pragma GCC unroll 4
          for (int v = 0; v < kVectors; ++v)
            sums[v][t].template step<2 * step.value + half.value>(weights[half.value][v],
                                                                  magnitudes[v], a, offset);
        }
      });
    });
  }

  PLAIT_INLINE void add_group(const Cursor (&unit)[kVectors], int block, int group, const Tokens& x,
                              int64_t column, const Accumulator<S> (&sums)[kVectors][kTokens]) {
    Floats scale[kVectors], minimum[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      scale[v] = S::scale(unit[v], block, group);
      if constexpr (S::kHasMin) minimum[v] = S::minimum(unit[v], block, group);
    }
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      const Floats x_scale = splat(x.scales[t * (x.cols / 32) + column / 32]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        total[v][t] = fma(to_float(sums[v][t].total), mul(scale[v], x_scale), total[v][t]);
        if constexpr (S::kHasMin)
          low[v][t] =
              fma(minimum[v], splat(x.sums[t * (x.cols / S::kGroup) + column / S::kGroup + group]),
                  low[v][t]);
      }
    }
  }
};

template <class S, int kVectors, int kTokens>
[[gnu::noinline]] void tile(const TileInput& in) {
  Tile<S, kVectors, kTokens> tile;
  const Tokens x = in.tokens;
  Cursor unit[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    unit[v] = in.weights[v];
    for (int t = 0; t < kTokens; ++t) tile.total[v][t] = splat(0.0f);
    for (int t = 0; S::kHasMin && t < kTokens; ++t) tile.low[v][t] = splat(0.0f);
  }
  for (int t = 0; t < kTokens; ++t) tile.values[t] = x.values + t * x.cols;

  for (int64_t column = 0; column < x.cols;) {
    for (int block = 0; block < S::kUnitBlocks; ++block, column += 32) {
      Cursor chunks[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        chunks[v] = S::block(unit[v], block);
        if constexpr (S::kPrefetches)
          for (int line = 0; line < S::kBlockBytes; line += 64)
            prefetch(chunks[v].at + kPrefetchAhead + line);
      }
      unroll<S::kGroups>([&](auto group) PLAIT_LAMBDA {
        Accumulator<S> sums[kVectors][kTokens];
        tile.template dots<group.value>(chunks, x, column / S::kGroup + group.value, sums);
        tile.add_group(unit, block, group.value, x, column, sums);
      });
      for (int t = 0; t < kTokens; ++t) tile.values[t] += 32;
    }
    for (int v = 0; v < kVectors; ++v) unit[v] = unit[v].plus(S::kUnitBytes);
  }

  for (int v = 0; v < kVectors; ++v)
    for (int t = 0; t < kTokens; ++t)
      emit(*in.out, in.first_token + t, in.rows[v], in.row_end,
           S::kHasMin ? add(tile.total[v][t], tile.low[v][t]) : tile.total[v][t]);
}

// tile<S, kVectors, count> for a count known at run time only.
template <class S, int kVectors, int kMaxTokens>
PLAIT_INLINE void run_tile(int count, const TileInput& in) {
  unroll<kMaxTokens>([&](auto index) PLAIT_LAMBDA {
    if (count == index.value + 1) tile<S, kVectors, index.value + 1>(in);
  });
}

// Calls tiles for `count` tokens from in.tokens on, as even as their number allows (7 = 4 + 3).
template <class S, int kVectors, int kMaxTokens>
void run_tiles(TileInput in, int64_t count) {
  const Tokens first = in.tokens;
  const int64_t first_token = in.first_token;
  const int64_t num_tiles = (count + kMaxTokens - 1) / kMaxTokens;
  for (int64_t i = 0; i < num_tiles; ++i) {
    const int64_t begin = count * i / num_tiles, end = count * (i + 1) / num_tiles;
    in.tokens = first.from(begin, S::kGroup);
    in.first_token = first_token + begin;
    run_tile<S, kVectors, kMaxTokens>(static_cast<int>(end - begin), in);
  }
}

}  // namespace
}  // namespace plait::PLAIT_ISA
