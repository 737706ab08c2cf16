// Tiles over 2:4 sparse panels. The values of two groups of four columns meet the activations that
// their places pick out of sixteen: half the products of the dense tiles, and the same integers, so
// also the same bits.
#pragma once

#include "linear_int8.h"
#include "quant/sparse_panel.h"

namespace plait::PLAIT_ISA {
namespace {

// Values become signed bytes.
template <class F>
struct SparseWeights {
  static constexpr int kLargest = 1 << (F::kBits - 1);
  // Where products are of an unsigned and a signed byte, activations are made unsigned (x + 128)
  // if the sums of pairs fit; else the sign moves from the value to the activation.
  static constexpr bool kFits = kHasDot || 2 * 2 * 255 * kLargest <= 32767;
  static constexpr bool kShifts = !kTakesSigned && kFits;
  static constexpr bool kSignTrick = !kFits;
  static constexpr bool kHasMin = false;
  static constexpr int kOffset = 0;
  static constexpr bool kHasOffset = false;
  static constexpr int kGroup = quant::Panel<F>::kGroup;
  static constexpr int kGroups = 32 / kGroup;
};

// As Packed. Of the 8 chunks of a block the first 4 are values, the others where among 16 columns
// each of them stands.
template <class F>
struct PackedSparse : SparseWeights<F> {
  using P = quant::SparsePanel<F>;
  static constexpr int kUnitBlocks = P::kUnitBlocks;
  static constexpr int kUnitBytes = P::kUnitBytes;
  static constexpr int kBlockBytes = P::kBlockBytes;
  static constexpr bool kIsExpanded = false;
  static constexpr bool kIsSparse = true;

  template <int kPair>
  static PLAIT_INLINE void pair(Cursor block, Bytes& first, Bytes& second) {
    if constexpr (kPair < 2) {
      first = values<2 * kPair>(block);
      second = values<2 * kPair + 1>(block);
    } else {
      first = places<2 * kPair - 4>(block);
      second = places<2 * kPair - 3>(block);
    }
  }

  static PLAIT_INLINE Cursor block(Cursor unit, int index) {
    return unit.plus(P::kHeaderBytes + index * kBlockBytes);
  }
  static PLAIT_INLINE Floats scale(Cursor unit, int block, int group) {
    return Packed<F>::scale(unit, block, group);
  }

 private:
  template <int kChunk>
  static PLAIT_INLINE Bytes values(Cursor block) {
    Bytes codes = field<P::kLowBits, kChunk, 0>(block);
    if constexpr (P::kHighBits > 0)
      codes = either(codes, field<P::kHighBits, kChunk, P::kLowBits>(block.plus(P::kLowBytes)));
    if constexpr (F::kOffset != 0) codes = subtract_bytes(codes, splat_byte(F::kOffset));
    return codes;
  }

  template <int kChunk>
  static PLAIT_INLINE Bytes places(Cursor block) {
    constexpr int32_t kFirstColumns = 0x04040000 + kChunk % 2 * 0x08080808;
    return either(field<2, kChunk, 0>(block.plus(P::kPlacesAt)), splat(kFirstColumns));
  }
};

// 16 columns of one vector of panels.
template <class S>
struct SparseSixteen {
  Bytes values[2];
  Bytes places[2];
  Bytes magnitudes[2];  // sign trick
  Ints excess;          // what shifted activations are too much

  template <int kFirst>
  PLAIT_INLINE void load(Cursor block) {
    S::template pair<kFirst / 16>(block, values[0], values[1]);
    S::template pair<2 + kFirst / 16>(block, places[0], places[1]);
    for (int i = 0; i < 2; ++i) magnitudes[i] = magnitude(values[i]);
    if constexpr (S::kShifts) load_excess();
  }

#if defined(PLAIT_HAS_DOT)
  // Of sixteen activations, the same in every row, times their multiplier.
  PLAIT_INLINE Ints dot_with(Bytes sixteen, Ints multiplier) const {
    const Ints start = S::kShifts ? excess : splat(0);
    const Ints first = dot_signed(start, values[0], look_up(sixteen, places[0]));
    return multiply(dot_signed(first, values[1], look_up(sixteen, places[1])), multiplier);
  }

 private:
  PLAIT_INLINE void load_excess() {
    const Bytes shift = splat_byte(-128);
    excess = subtract(splat(0), dot(dot(splat(0), shift, values[0]), shift, values[1]));
  }

  // `dot` with the unsigned operand first, if there is one.
  static PLAIT_INLINE Ints dot_signed(Ints total, Bytes weights, Bytes x) {
    return S::kShifts ? dot(total, x, weights) : dot(total, weights, x);
  }
#else
  PLAIT_INLINE Ints dot_with(Bytes sixteen, Ints multiplier) const {
    const Bytes first = look_up(sixteen, places[0]), second = look_up(sixteen, places[1]);
    if constexpr (S::kSignTrick) {
      const Ints low = pair_dot(magnitudes[0], with_sign(first, values[0]));
      const Ints high = pair_dot(magnitudes[1], with_sign(second, values[1]));
      return add(multiply_pairs(low, multiplier), multiply_pairs(high, multiplier));
    } else {
      const Ints sum = add_pairs(pair_dot(first, values[0]), pair_dot(second, values[1]));
      return multiply_pairs(S::kShifts ? subtract_pairs(sum, excess) : sum, multiplier);
    }
  }

 private:
  PLAIT_INLINE void load_excess() {
    excess = pair_dot(splat_byte(-128), add_bytes(values[0], values[1]));
  }
#endif
};

template <class S, int kVectors, int kTokens>
  requires(S::kIsSparse)
struct Tile<S, kVectors, kTokens> : Totals<kVectors, kTokens> {
  using Totals<kVectors, kTokens>::total;

  PLAIT_INLINE void add_block(const Cursor (&unit)[kVectors], int block, const Tokens& tokens,
                              int64_t at) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const Cursor chunks = S::block(unit[v], block);
      if constexpr (!S::kIsExpanded)
        for (int line = 0; line < S::kBlockBytes; line += 64)
          prefetch(chunks.at + kPrefetchAhead + line);
      Ints sums[kTokens];
      unroll<2>([&](auto half) PLAIT_LAMBDA {
        constexpr bool kIsNew = half.value == 0 || S::kGroup == kActBlock;
        add_sixteen<half.value, kIsNew>(chunks, tokens, at, sums);
        if constexpr (half.value == 1 || S::kGroup == kActBlock)
          collect(v, S::scale(unit[v], block, half.value * kActBlock / S::kGroup), sums);
      });
    }
  }

 private:
  template <int kHalf, bool kIsNew>
  static PLAIT_INLINE void add_sixteen(const Cursor& chunks, const Tokens& tokens, int64_t at,
                                       Ints (&sums)[kTokens]) {
    SparseSixteen<S> weights;
    weights.template load<kHalf * kActBlock>(chunks);
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      const ActBlock& x = tokens.blocks[t * tokens.stride + at];
      const Ints sum = weights.dot_with(splat_table(x.values + kHalf * kActBlock),
                                        splat_multiplier(x.multipliers[kHalf]));
      sums[t] = kIsNew ? sum : add(sums[t], sum);
      pin(sums[t]);
    }
  }

  PLAIT_INLINE void collect(int v, Floats scale, const Ints (&sums)[kTokens]) {
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) total[v][t] = fma(to_float(sums[t]), scale, total[v][t]);
  }
};

}  // namespace

template <class F>
void linear_sparse_of(const LinearCall& call, const QuantizedRows& x) {
  Int8Linear<PackedSparse<F>>(call, x).run();
}

}  // namespace plait::PLAIT_ISA
