// The inner kernel: kVectors vectors of panels times kTokens rows of activations, all of K.
//
// Every instance does the same operations in the same order for one element of the result, so
// results do not depend on the tile an element happens to fall into. The rests of the fine blocks
// come first, and their total counts kRestScale; then the blocks. For each group of columns with a
// scale:
//   total = fma(minimum, float(sum of multiplier * x), total)      formats with a minimum
//   total = fma(float(sum of multiplier * integer dot of 16), scale, total)
// total * row scale, + bias, + what was there
#pragma once

#include "linear_source.h"
#include "ops/linear_table.h"

namespace plait::PLAIT_ISA {
namespace {

constexpr int kMaxVectors = 4;

// Activations of the tokens of a tile: the blocks of a row, then the rests of the fine ones.
struct Tokens {
  const ActBlock* blocks;  // [][stride]
  const float* scales;     // [], of the rows
  int64_t stride;

  Tokens from(int64_t token) const { return {blocks + token * stride, scales + token, stride}; }
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

// Integer dots of 16 columns times their multipliers, accumulated chunk by chunk over a group.
template <class S>
struct Accumulator {
  static constexpr int kChunks = kActBlock / 4;
  // Products that fit into 16 bits when added there: |activation| <= 127, two per 16 bits.
  static constexpr int kFit = 32767 / (2 * 127 * S::kLargest);
  static constexpr int kRun = kFit >= kChunks ? kChunks : kFit >= 2 ? 2 : 1;
  // With `dot`: sums of 16 products fit into 16 bits, so that two of them meet their multipliers in
  // one step (measured: products of 4-bit weights 1.08 times as fast).
  static constexpr bool kJoins =
      kHasDot && S::kGroup == kFineBlock && kActBlock * 127 * S::kLargest <= 32767;

  Ints total;
  Ints part;

  template <int kChunk>
  PLAIT_INLINE void step(Bytes weights, Bytes magnitudes, const ActBlock& x, int first) {
    const Bytes a = splat_chunk(x.values + first + 4 * kChunk);
    const auto& multiplier = x.multipliers[(first + 4 * kChunk) / kActBlock];
#if defined(PLAIT_HAS_DOT)
    (void)magnitudes;
    part = dot(kChunk % kChunks == 0 ? splat(0) : part, weights, a);
    pin(part);
    if constexpr (kChunk % kChunks != kChunks - 1) return;
    if constexpr (!kJoins)
      collect<kChunk >= kChunks>(multiply(part, splat_multiplier(multiplier)));
    else if constexpr (kChunk < kChunks)
      total = part;
    else
      total = multiply_both(total, part, x.multipliers);
#else
    const Ints product =
        S::kSignTrick ? pair_dot(magnitudes, with_sign(a, weights)) : pair_dot(weights, a);
    part = kChunk % kRun == 0 ? product : add_pairs(part, product);
    if constexpr (kRun > 1) pin(part);
    if constexpr (kChunk % kRun == kRun - 1) {
      collect<kChunk >= kRun>(multiply_pairs(part, splat_multiplier(multiplier)));
      if constexpr (kRun == 1) pin(total);
    }
#endif
  }

 private:
  template <bool kMore>
  PLAIT_INLINE void collect(Ints sum) {
    total = kMore ? add(total, sum) : sum;
  }
};

// Calls body(units, block of the unit, block of the activations) for the fine blocks, then
// between(), then body for the blocks of W in order.
template <class S, int kVectors, class Body, class Between>
PLAIT_INLINE void for_each_block(const TileInput& in, const Body& body, const Between& between) {
  int64_t at = in.num_blocks;
  for (int64_t run = 0; run <= in.num_fine; ++run) {
    const bool is_rest = run < in.num_fine;
    const int64_t first = is_rest ? in.fine_blocks[run] : 0;
    const int64_t end = is_rest ? first + 1 : in.num_blocks;
    if (!is_rest && in.num_fine > 0) between();
    if (!is_rest) at = 0;
    Cursor unit[kVectors];
    for (int v = 0; v < kVectors; ++v) unit[v] = advance<S>(in.weights[v], first / S::kUnitBlocks);
    for (int64_t block = first; block < end; ++block, ++at) {
      body(unit, static_cast<int>(block % S::kUnitBlocks), at);
      if (block % S::kUnitBlocks == S::kUnitBlocks - 1)
        for (int v = 0; v < kVectors; ++v) unit[v] = advance<S>(unit[v], 1);
    }
  }
}

// What a tile adds up, one per row of W and token.
template <int kVectors, int kTokens>
struct Totals {
  Floats total[kVectors][kTokens];

  PLAIT_INLINE void start() {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v)
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) total[v][t] = splat(0.0f);
  }

  PLAIT_INLINE void scale_all(float scale) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v)
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) total[v][t] = mul(total[v][t], splat(scale));
  }
};

template <class S, int kVectors, int kTokens>
struct Tile : Totals<kVectors, kTokens> {
  using Totals<kVectors, kTokens>::total;

  using Sums = Accumulator<S>[kVectors][kTokens];
  using Blocks = const ActBlock* [kTokens];

  template <int kPair>
  PLAIT_INLINE void load_pair(const Cursor (&block)[kVectors], Bytes (&first)[kVectors],
                              Bytes (&second)[kVectors]) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) S::template pair<kPair>(block[v], first[v], second[v]);
  }

  // total += scale * sum, for one token and the group of columns that begins at kFirst.
  template <int kFirst>
  PLAIT_INLINE void add_token(const Floats (&scale)[kVectors], const ActBlock& x, int t,
                              const Ints (&sums)[kVectors]) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      Ints sum = sums[v];
      if constexpr (S::kHasOffset) sum = subtract(sum, times<S::kOffset>(sum_of_group<kFirst>(x)));
      total[v][t] = fma(to_float(sum), scale[v], total[v][t]);
    }
  }

  template <int kFirst>
  static PLAIT_INLINE Ints sum_of_group(const ActBlock& x) {
    if constexpr (S::kGroup == kFineBlock) return splat(x.sum);
    if constexpr (kFirst == 0) return splat(x.first_sum);
    return subtract(splat(x.sum), splat(x.first_sum));
  }

  template <int kFirst>
  PLAIT_INLINE void chunk_by_chunk(const Cursor (&block)[kVectors], const Floats (&scale)[kVectors],
                                   const Blocks& x) {
    Sums sums;
    unroll<S::kGroup / 8>([&](auto pair) PLAIT_LAMBDA {
      Bytes weights[2][kVectors];
      load_pair<kFirst / 8 + pair.value>(block, weights[0], weights[1]);
      unroll<2>([&](auto half) PLAIT_LAMBDA {
        Bytes magnitudes[kVectors];
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) magnitudes[v] = magnitude(weights[half.value][v]);
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t)
#pragma GCC unroll 4
          for (int v = 0; v < kVectors; ++v)
            sums[v][t].template step<2 * pair.value + half.value>(weights[half.value][v],
                                                                  magnitudes[v], *x[t], kFirst);
      });
    });
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      Ints total_of[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) total_of[v] = sums[v][t].total;
      add_token<kFirst>(scale, *x[t], t, total_of);
    }
  }

#if defined(PLAIT_HAS_MATRIX)
  // The same for two tokens at a time; a last odd one is its own partner.
  template <int kFirst>
  PLAIT_INLINE void two_by_two(const Cursor (&block)[kVectors], const Floats (&scale)[kVectors],
                               const Blocks& x) {
    constexpr int kPairs = (kTokens + 1) / 2;
    PairSums sums[kVectors][kPairs];
    unroll<S::kGroup / kActBlock>([&](auto part) PLAIT_LAMBDA {
      constexpr int kAt = kFirst + part.value * kActBlock;
      RowPairs rows[kVectors][2];
      unroll<2>([&](auto half) PLAIT_LAMBDA {
        Bytes first[kVectors], second[kVectors];
        load_pair<kAt / 8 + half.value>(block, first, second);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) rows[v][half.value] = pair_rows(first[v], second[v]);
      });
#pragma GCC unroll 4
      for (int p = 0; p < kPairs; ++p) {
        const ActBlock &a = *x[2 * p], &b = *x[2 * p + 1 < kTokens ? 2 * p + 1 : 2 * p];
        const TokenPair both[] = {pair_tokens(a.values + kAt, b.values + kAt),
                                  pair_tokens(a.values + kAt + 8, b.values + kAt + 8)};
        const auto multipliers =
            pair_multipliers(a.multipliers[kAt / kActBlock], b.multipliers[kAt / kActBlock]);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
          const PairSums sum = matrix(rows[v], both, multipliers);
          sums[v][p] = part.value == 0 ? sum : add(sums[v][p], sum);
        }
      }
    });
#pragma GCC unroll 4
    for (int p = 0; p < kPairs; ++p) {
      Ints first[kVectors], second[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        first[v] = of_token<0>(sums[v][p]);
        second[v] = of_token<1>(sums[v][p]);
      }
      add_token<kFirst>(scale, *x[2 * p], 2 * p, first);
      if (2 * p + 1 < kTokens) add_token<kFirst>(scale, *x[2 * p + 1], 2 * p + 1, second);
    }
  }
#endif

  // total += minimum * sum of the activations.
  template <int kFirst>
  PLAIT_INLINE void add_low(const Cursor (&unit)[kVectors], int block, const Blocks& x) {
    Floats minimum[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) minimum[v] = S::minimum(unit[v], block, kFirst / S::kGroup);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      const Floats sum = to_float(sum_of_group<kFirst>(*x[t]));
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) total[v][t] = fma(minimum[v], sum, total[v][t]);
    }
  }

  PLAIT_INLINE void add_block(const Cursor (&unit)[kVectors], int block, const Tokens& tokens,
                              int64_t at) {
    Cursor chunks[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      chunks[v] = S::block(unit[v], block);
      if constexpr (!S::kIsExpanded) prefetch_block(chunks[v]);
    }
    Blocks x;
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) x[t] = tokens.blocks + t * tokens.stride + at;
    unroll<S::kGroups>([&](auto group) PLAIT_LAMBDA {
      constexpr int kFirst = group.value * S::kGroup;
      if constexpr (S::kHasMin) add_low<kFirst>(unit, block, x);
      Floats scale[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) scale[v] = S::scale(unit[v], block, group.value);
#if defined(PLAIT_HAS_MATRIX)
      if constexpr (kTokens > 1) return two_by_two<kFirst>(chunks, scale, x);
#endif
      chunk_by_chunk<kFirst>(chunks, scale, x);
    });
  }

  static PLAIT_INLINE void prefetch_block(const Cursor& chunks) {
    for (int line = 0; line < S::kBlockBytes; line += 64)
      prefetch(chunks.at + kPrefetchAhead + line);
    if constexpr (requires { S::kLowBlockBytes; })
      for (int line = 0; line < S::kLowBlockBytes; line += 64)
        prefetch(chunks.low_at + kPrefetchAhead + line);
  }
};

template <class S, int kVectors, int kTokens>
[[gnu::noinline]] void tile(const TileInput& in) {
  Tile<S, kVectors, kTokens> tile;
  const Tokens x = in.tokens;
  tile.start();
  const uint8_t* ahead = in.ahead;
  for_each_block<S, kVectors>(
      in,
      [&](const Cursor(&unit)[kVectors], int block, int64_t at) PLAIT_LAMBDA {
        if constexpr (S::kIsExpanded)
          for (const uint8_t* end = ahead + in.ahead_per_block; ahead < end; ahead += 64)
            prefetch_far(ahead);
        tile.add_block(unit, block, x, at);
      },
      [&]() PLAIT_LAMBDA { tile.scale_all(kRestScale); });
  for (int v = 0; v < kVectors; ++v)
    for (int t = 0; t < kTokens; ++t)
      emit(*in.out, in.first_token + t, in.rows[v], in.row_end,
           mul(tile.total[v][t], splat(x.scales[t])));
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
    in.tokens = first.from(begin);
    in.first_token = first_token + begin;
    run_tile<S, kVectors, kMaxTokens>(static_cast<int>(end - begin), in);
    in.ahead_per_block = 0;  // once is enough
  }
}

}  // namespace
}  // namespace plait::PLAIT_ISA
