// Where a tile takes its weights from: packed panels, decoded on the way, or panels expanded to
// bytes beforehand. Both give the eight chunks of a block of 32 columns, scales and minima.
#pragma once

#include "linear_lanes.h"
#include "quant/panel.h"

namespace plait::PLAIT_ISA {
namespace {

constexpr int64_t kPrefetchAhead = 1024;

using quant::Codes;
using quant::Scales;

// What the dot products need to know of the bytes.
template <class F>
struct Weights {
  // Signed bytes become unsigned ones (w + 128) where `dot` wants that; else they stay signed.
  static constexpr bool kIsSigned = F::kCodes != Codes::offset;
  static constexpr bool kFlips = kIsSigned && kHasDot && !kTakesSigned;
  static constexpr int kOffset = kFlips ? 128 : F::kOffset;
  static constexpr bool kSignTrick = kIsSigned && !kFlips;
  static constexpr bool kShifts = false;  // of the activations, by 128
  static constexpr int kLargest = kIsSigned ? 255 : (1 << F::kBits) - 1;
  static constexpr bool kHasMin = quant::Panel<F>::kHasMin;
  static constexpr int kGroup = quant::Panel<F>::kGroup;  // columns that share a scale
  static constexpr int kGroups = 32 / kGroup;
  static constexpr bool kHasOffset = kOffset != 0;
};

// The kWidth bits of chunk kChunk of a block's vectors, moved to bit kTo of each byte.
template <int kWidth, int kChunk, int kTo>
PLAIT_INLINE Bytes field(Cursor vectors) {
  constexpr int kPerVector = 8 / kWidth;
  constexpr int kFrom = kChunk % kPerVector * kWidth;
  const Bytes all = load_bytes(vectors.plus(kChunk / kPerVector * 32));
  if constexpr (kWidth == 8) return all;
  return both(shift<kTo - kFrom>(all), splat_byte(((1 << kWidth) - 1) << kTo));
}

template <class F>
struct Packed : Weights<F> {
  using P = quant::Panel<F>;
  static constexpr int kUnitBlocks = P::kUnitBlocks;
  static constexpr int kUnitBytes = P::kUnitBytes;
  static constexpr int kBlockBytes = P::kBlockBytes;
  static constexpr bool kIsExpanded = false;
  static constexpr bool kIsSparse = false;

  // Chunks 2 kPair and 2 kPair + 1 of the block whose vectors begin at `block`.
  template <int kPair>
  static PLAIT_INLINE void pair(Cursor block, Bytes& first, Bytes& second) {
    first = chunk<2 * kPair>(block);
    second = chunk<2 * kPair + 1>(block);
  }

  static PLAIT_INLINE Cursor block(Cursor unit, int index) {
    return unit.plus(P::kHeaderBytes + index * kBlockBytes);
  }

  static PLAIT_INLINE Floats scale(Cursor unit, int block, int group) {
    const Floats d = load_halves(unit);
    const int index = block * Weights<F>::kGroups + group;
    const Cursor at = unit.plus(P::kSubscalesAt + 8 * index);
    if constexpr (F::kScales == Scales::byte_pairs) return mul(d, to_float(load_u8(at)));
    if constexpr (F::kScales == Scales::nibble_pairs)
      return mul(d, to_float(both(load_u8(at), splat(15))));
    if constexpr (F::kScales == Scales::signed_bytes) return mul(d, to_float(load_i8(at)));
    return d;
  }

  static PLAIT_INLINE Floats minimum(Cursor unit, int block, int group) {
    const Floats m = load_halves(unit.plus(16));
    const int index = block * Weights<F>::kGroups + group;
    const Cursor at = unit.plus(P::kSubscalesAt + 8 * index);
    if constexpr (F::kScales == Scales::byte_pairs)
      return negate(mul(m, to_float(load_u8(at.plus(64)))));
    if constexpr (F::kScales == Scales::nibble_pairs)
      return negate(mul(m, to_float(shift<-4>(load_u8(at)))));
    return m;
  }

 private:
  template <int kChunk>
  static PLAIT_INLINE Bytes chunk(Cursor block) {
    const Bytes low = field<P::kLowBits, kChunk, 0>(block);
    if constexpr (F::kCodes == Codes::table) return flipped(look_up(splat_table(F::kTable), low));
    if constexpr (P::kHighBits == 0) return flipped(low);
    if constexpr (P::kHighBits > 0)
      return either(low, field<P::kHighBits, kChunk, P::kLowBits>(block.plus(P::kLowBytes)));
  }

  static PLAIT_INLINE Bytes flipped(Bytes a) {
    if constexpr (Weights<F>::kFlips) return flip(a, splat_byte(128));
    return a;
  }
};

// One vector of panels as bytes, in scratch: per 32 columns kGroups vectors of float scales, as
// many minima if there are any, and 8 vectors of chunks. Formats that look the same by now share
// it.
template <int kLargestWeight, bool kTrick, int kGroupColumns, bool kMin, int kOff, bool kSparse,
          bool kShift>
struct Expanded {
  static constexpr bool kShifts = kShift;
  static constexpr bool kIsSparse = kSparse;
  static constexpr bool kSignTrick = kTrick;
  static constexpr int kLargest = kLargestWeight;
  static constexpr bool kHasMin = kMin;
  static constexpr int kOffset = kOff;
  static constexpr bool kHasOffset = kOffset != 0;
  static constexpr int kGroup = kGroupColumns;
  static constexpr int kGroups = 32 / kGroup;
  static constexpr int kUnitBlocks = 1;
  static constexpr int kMinimaAt = kGroups * kVectorBytes;
  static constexpr int kChunksAt = kMinimaAt * (kHasMin ? 2 : 1);
  static constexpr int kUnitBytes = kChunksAt + 8 * kVectorBytes;
  static constexpr int kBlockBytes = kUnitBytes;
  static constexpr bool kIsExpanded = true;

  template <int kPair>
  static PLAIT_INLINE void pair(Cursor block, Bytes& first, Bytes& second) {
    first = load_aligned(block.at + 2 * kPair * kVectorBytes);
    second = load_aligned(block.at + (2 * kPair + 1) * kVectorBytes);
  }
  static PLAIT_INLINE Cursor block(Cursor unit, int) { return unit.plus(kChunksAt); }
  static PLAIT_INLINE Floats scale(Cursor unit, int, int group) {
    return load_aligned(reinterpret_cast<const float*>(unit.at + group * kVectorBytes));
  }
  static PLAIT_INLINE Floats minimum(Cursor unit, int, int group) {
    return load_aligned(reinterpret_cast<const float*>(unit.at + kMinimaAt + group * kVectorBytes));
  }
};

template <class S>
using ExpandedOf = Expanded<S::kLargest, S::kSignTrick, S::kGroup, S::kHasMin, S::kOffset,
                            S::kIsSparse, S::kShifts>;

template <class S>
[[gnu::noinline]] void expand(Cursor from, int64_t cols, uint8_t* out) {
  using E = ExpandedOf<S>;
  for (int64_t column = 0; column < cols; column += 32 * S::kUnitBlocks) {
    if constexpr (requires { S::kLowUnitBytes; })
      for (int line = 0; line < S::kLowUnitBytes; line += 64)
        prefetch(from.low_at + kPrefetchAhead + line);
    for (int block = 0; block < S::kUnitBlocks; ++block, out += E::kUnitBytes) {
      for (int group = 0; group < S::kGroups; ++group) {
        store_aligned(reinterpret_cast<float*>(out + group * kVectorBytes),
                      S::scale(from, block, group));
        if constexpr (S::kHasMin)
          store_aligned(reinterpret_cast<float*>(out + E::kMinimaAt + group * kVectorBytes),
                        S::minimum(from, block, group));
      }
      unroll<4>([&](auto pair) PLAIT_LAMBDA {
        Bytes first, second;
        S::template pair<pair.value>(S::block(from, block), first, second);
        store_aligned(out + E::kChunksAt + 2 * pair.value * kVectorBytes, first);
        store_aligned(out + E::kChunksAt + (2 * pair.value + 1) * kVectorBytes, second);
      });
    }
    from = advance<S>(from, 1);
  }
}

}  // namespace
}  // namespace plait::PLAIT_ISA
