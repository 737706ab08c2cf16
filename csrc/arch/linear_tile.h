// The inner kernel: kVectors vectors of panels times kTokens rows of activations, all of K.
//
// Every instance does the same operations in the same order for one element of the result, so
// results do not depend on the tile an element happens to fall into:
//   total = fma(float(integer dot of 16 columns), scale * x scale, total)     one after the other
//   low   = fma(minimum, sum of x scale * float(sum of x), low)      once per group of the weights
//   total + low, + bias, + what was there
#pragma once

#include "linear_source.h"
#include "ops/linear_table.h"

namespace plait::PLAIT_ISA {
namespace {

constexpr int kMaxVectors = 4;

// Activations of the tokens of a tile, and what the format needs of their sums.
// Their columns are those of W and then the rests of the fine blocks.
struct Tokens {
  const int8_t* values;    // [][cols]
  const float* scales;     // [][cols / 16]
  const int32_t* offsets;  // [][cols / 16]: - offset * sum, formats with an offset
  const float* sums;       // [][cols / group]: sums of scale * sum, formats with a minimum
  int64_t cols;

  Tokens from(int64_t token, int group) const {
    const int64_t step = token * (cols / kActBlock);
    return {values + token * cols, scales + step, offsets == nullptr ? nullptr : offsets + step,
            sums == nullptr ? nullptr : sums + token * (cols / group), cols};
  }
};

struct TileInput {
  Cursor weights[kMaxVectors];
  int64_t rows[kMaxVectors];  // first row of W of each vector
  Tokens tokens;
  int64_t first_token;
  int64_t num_blocks;  // of 32 columns of W
  const int32_t* fine_blocks;
  int64_t num_fine;
  const LinearOutput* out;
  int64_t row_end;  // rows from here on are not written
  // What to fetch on the way, this many bytes with each block of 32 columns.
  const uint8_t* ahead;
  int64_t ahead_per_block;
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
    Cursor cursor{matrix.panel(panel(vector)), 0};
    if (has_next) cursor.next = static_cast<int64_t>(matrix.panel_bytes());
    if (!matrix.has_planes()) return cursor;
    cursor.low_at = matrix.low_panel(panel(vector));
    if (has_next) cursor.low_next = static_cast<int64_t>(matrix.low_panel_bytes());
    return cursor;
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

// Integer dots of 16 columns, accumulated chunk by chunk.
template <class S>
struct Accumulator {
  static constexpr int kChunks = kActBlock / 4;
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

// Calls body(units, block of the unit, first column of the activations) for the blocks of W in
// order, then for the fine ones again.
template <class S, int kVectors, class Body>
PLAIT_INLINE void for_each_block(const TileInput& in, const Body& body) {
  int64_t column = 0;
  for (int64_t run = -1; run < in.num_fine; ++run) {
    const int64_t first = run < 0 ? 0 : in.fine_blocks[run];
    const int64_t end = run < 0 ? in.num_blocks : first + 1;
    Cursor unit[kVectors];
    for (int v = 0; v < kVectors; ++v) unit[v] = advance<S>(in.weights[v], first / S::kUnitBlocks);
    for (int64_t block = first; block < end; ++block, column += 32) {
      body(unit, static_cast<int>(block % S::kUnitBlocks), column);
      if (block % S::kUnitBlocks == S::kUnitBlocks - 1)
        for (int v = 0; v < kVectors; ++v) unit[v] = advance<S>(unit[v], 1);
    }
  }
}

template <class S, int kVectors, int kTokens>
struct Tile {
  // Without `dot` the weights of 16 columns fit the registers and their sums do not: then token
  // after token. Else chunk after chunk; so too where magnitudes take registers besides.
  static constexpr bool kTokenByToken = S::kGroup == 16 && !kHasDot;

  Floats total[kVectors][kTokens];
  Floats low[S::kHasMin ? kVectors : 1][kTokens];
  const int8_t* values[kTokens];

  using Sums = Accumulator<S>[kVectors][kTokens];

  template <int kPair>
  PLAIT_INLINE void load_pair(const Cursor (&block)[kVectors], Bytes (&first)[kVectors],
                              Bytes (&second)[kVectors]) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) S::template pair<kPair>(block[v], first[v], second[v]);
  }

  // One chunk of the 16 columns that begin at kFirst in the block, one token, all vectors.
  template <int kFirst, int kChunk>
  PLAIT_INLINE void step(const Bytes (&weights)[kVectors], const Bytes (&magnitudes)[kVectors],
                         const Tokens& x, int64_t column, int t, Sums& sums) {
    const Bytes a = splat_chunk(values[t] + kFirst + 4 * kChunk);
    const int32_t* offset =
        S::kHasOffset ? x.offsets + (t * x.cols + column + kFirst) / kActBlock : nullptr;
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v)
      sums[v][t].template step<kChunk>(weights[v], magnitudes[v], a, offset);
  }

  // total += scale * x scale * sum, for one token and the 16 columns from `column` on.
  PLAIT_INLINE void add_token(const Floats (&scale)[kVectors], const Tokens& x, int64_t column,
                              int t, const Sums& sums) {
    const Floats x_scale = splat(x.scales[(t * x.cols + column) / kActBlock]);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v)
      total[v][t] = fma(to_float(sums[v][t].total), mul(scale[v], x_scale), total[v][t]);
  }

  template <int kFirst>
  PLAIT_INLINE void chunk_by_chunk(const Cursor (&block)[kVectors], const Floats (&scale)[kVectors],
                                   const Tokens& x, int64_t column) {
    Sums sums;
    unroll<kActBlock / 8>([&](auto pair) PLAIT_LAMBDA {
      Bytes weights[2][kVectors];
      load_pair<kFirst / 8 + pair.value>(block, weights[0], weights[1]);
      unroll<2>([&](auto half) PLAIT_LAMBDA {
        Bytes magnitudes[kVectors];
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) magnitudes[v] = magnitude(weights[half.value][v]);
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t)
          step<kFirst, 2 * pair.value + half.value>(weights[half.value], magnitudes, x, column, t,
                                                    sums);
      });
    });
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) add_token(scale, x, column + kFirst, t, sums);
  }

  template <int kFirst>
  PLAIT_INLINE void token_by_token(const Cursor (&block)[kVectors], const Floats (&scale)[kVectors],
                                   const Tokens& x, int64_t column) {
    Sums sums;
    Bytes weights[kActBlock / 4][kVectors];
    unroll<kActBlock / 8>([&](auto pair) PLAIT_LAMBDA {
      load_pair<kFirst / 8 + pair.value>(block, weights[2 * pair.value],
                                         weights[2 * pair.value + 1]);
    });
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      unroll<kActBlock / 4>([&](auto chunk) PLAIT_LAMBDA {
        step<kFirst, chunk.value>(weights[chunk.value], weights[chunk.value], x, column, t, sums);
      });
      add_token(scale, x, column + kFirst, t, sums);
    }
  }

  PLAIT_INLINE void add_low(const Cursor (&unit)[kVectors], int block, int group, const Tokens& x,
                            int64_t column) {
    Floats minimum[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) minimum[v] = S::minimum(unit[v], block, group);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      const Floats sum = splat(x.sums[(t * x.cols + column) / S::kGroup + group]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) low[v][t] = fma(minimum[v], sum, low[v][t]);
    }
  }

  // All minima before all else: the sums stay in registers, and packed weights are not walked
  // twice.
  PLAIT_INLINE void add_all_lows(const TileInput& in) {
    for_each_block<S, kVectors>(
        in, [&](const Cursor(&unit)[kVectors], int, int64_t column) PLAIT_LAMBDA {
          unroll<S::kGroups>(
              [&](auto group) PLAIT_LAMBDA { add_low(unit, 0, group.value, in.tokens, column); });
        });
  }

  PLAIT_INLINE void add_block(const Cursor (&unit)[kVectors], int block, const Tokens& x,
                              int64_t column) {
    Cursor chunks[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      chunks[v] = S::block(unit[v], block);
      if constexpr (!S::kIsExpanded)
        for (int line = 0; line < S::kBlockBytes; line += 64) prefetch_block(chunks[v], line);
    }
    unroll<S::kGroups>([&](auto group) PLAIT_LAMBDA {
      Floats scale[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) scale[v] = S::scale(unit[v], block, group.value);
      unroll<S::kGroup / kActBlock>([&](auto part) PLAIT_LAMBDA {
        constexpr int kFirst = group.value * S::kGroup + part.value * kActBlock;
        if constexpr (kTokenByToken)
          token_by_token<kFirst>(chunks, scale, x, column);
        else
          chunk_by_chunk<kFirst>(chunks, scale, x, column);
      });
      if constexpr (S::kHasMin && !S::kIsExpanded) add_low(unit, block, group.value, x, column);
    });
    for (int t = 0; t < kTokens; ++t) values[t] += 32;
  }

  static PLAIT_INLINE void prefetch_block(const Cursor& chunks, int line) {
    prefetch(chunks.at + kPrefetchAhead + line);
    if constexpr (requires { S::kLowUnitBytes; }) prefetch(chunks.low_at + kPrefetchAhead + line);
  }

  PLAIT_INLINE Floats result(int v, int t) const {
    if constexpr (S::kHasMin) return add(total[v][t], low[v][t]);
    return total[v][t];
  }

  PLAIT_INLINE void start(const Tokens& x) {
    for (int t = 0; t < kTokens; ++t) {
      values[t] = x.values + t * x.cols;
      for (int v = 0; v < kVectors; ++v) total[v][t] = splat(0.0f);
      for (int v = 0; S::kHasMin && v < kVectors; ++v) low[v][t] = splat(0.0f);
    }
  }
};

template <class S, int kVectors, int kTokens>
[[gnu::noinline]] void tile(const TileInput& in) {
  Tile<S, kVectors, kTokens> tile;
  const Tokens x = in.tokens;
  tile.start(x);
  if constexpr (S::kHasMin && S::kIsExpanded) tile.add_all_lows(in);
  const uint8_t* ahead = in.ahead;
  for_each_block<S, kVectors>(
      in, [&](const Cursor(&unit)[kVectors], int block, int64_t column) PLAIT_LAMBDA {
        if constexpr (S::kIsExpanded)
          for (const uint8_t* end = ahead + in.ahead_per_block; ahead < end; ahead += 64)
            prefetch_far(ahead);
        tile.add_block(unit, block, x, column);
      });
  for (int v = 0; v < kVectors; ++v)
    for (int t = 0; t < kTokens; ++t)
      emit(*in.out, in.first_token + t, in.rows[v], in.row_end, tile.result(v, t));
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
    in.ahead_per_block = 0;  // once is enough
  }
}

}  // namespace
}  // namespace plait::PLAIT_ISA
