// The packed layout of all block formats: 8 rows side by side, 4 neighbouring columns per 32-bit
// lane, so that one 32-byte vector meets one broadcast of 4 activations. Per unit (the block of the
// source format: 32 or 256 columns):
//
//   d of the 8 rows, f16            16 bytes
//   m or dmin of the 8 rows, f16    16 bytes, if the format has one
//   subscales[16][8 rows]           128 bytes, units of 256 only
//   per 32 columns = 8 chunks of 4 columns:
//     low bits    chunk after chunk, 1, 2 or 4 chunks (8, 4 or 2 bits) per 32-byte vector
//     high bits   4 or 8 chunks (2 or 1 bits) per vector, if the code is wider than that
//
// Byte 4 row + column % 4 of a vector belongs to that row and column; a chunk that is stored
// earlier sits in lower bits. 32 columns take 32 kBits bytes, as in the source: packing keeps the
// size but for the subscales of Q3_K, Q4_K and Q5_K, which grow to bytes.
#pragma once

#include <bit>

#include "quant/traits.h"

namespace plait::quant {

template <class F>
struct Panel {
  static constexpr bool kIsSuper = F::kScales != Scales::plain && F::kScales != Scales::with_min;
  static constexpr bool kHasMin = F::kScales == Scales::with_min ||
                                  F::kScales == Scales::byte_pairs ||
                                  F::kScales == Scales::nibble_pairs;
  // Columns that share a scale.
  static constexpr int kGroup =
      F::kScales == Scales::nibble_pairs || F::kScales == Scales::signed_bytes ? 16 : 32;
  static constexpr int kUnitColumns = kIsSuper ? 256 : 32;
  static constexpr int kUnitBlocks = kUnitColumns / 32;
  static constexpr int kNumHalves = kHasMin ? 2 : 1;
  static constexpr int kSubscalesAt = 16 * kNumHalves;
  static constexpr int kHeaderBytes = kSubscalesAt + (kIsSuper ? 128 : 0);
  static constexpr int kLowBits = F::kBits == 8 ? 8 : F::kBits >= 4 ? 4 : 2;
  static constexpr int kHighBits = F::kBits - kLowBits;
  static constexpr int kLowBytes = 32 * kLowBits;
  static constexpr int kBlockBytes = 32 * F::kBits;
  static constexpr int kUnitBytes = kHeaderBytes + kUnitBlocks * kBlockBytes;

  // Writes one unit, all its bytes, from one block of each of the 8 rows.
  static void store(const RowBlock (&rows)[kPanelRows], uint8_t* unit) {
    for (int row = 0; row < kPanelRows; ++row) {
      const RowBlock& source = rows[row];
      store_header(source, row, unit);
      for (int block = 0; block < kUnitBlocks; ++block) {
        uint8_t* vectors = unit + kHeaderBytes + block * kBlockBytes;
        merge<kLowBits, 0>(source.codes + 32 * block, row, vectors);
        if constexpr (kHighBits > 0)
          merge<kHighBits, kLowBits>(source.codes + 32 * block, row, vectors + kLowBytes);
      }
    }
  }

  // The inverse of store.
  static void load(const uint8_t* unit, int row, RowBlock& out) {
    load_header(unit, row, out);
    for (int chunk = 0; chunk < kUnitColumns / 4; ++chunk) {
      const uint8_t* block = unit + kHeaderBytes + chunk / 8 * kBlockBytes;
      uint32_t codes = extract<kLowBits>(chunk % 8, row, block) & kLowMask;
      if constexpr (kHighBits > 0)
        codes |= (extract<kHighBits>(chunk % 8, row, block + kLowBytes) & kHighMask) << kLowBits;
      std::memcpy(out.codes + 4 * chunk, &codes, 4);
    }
  }

  static int weight(uint8_t code) {
    if constexpr (F::kCodes == Codes::twos_complement) return static_cast<int8_t>(code);
    if constexpr (F::kCodes == Codes::table) return F::kTable[code];
    return code - F::kOffset;
  }

  // Of one group of kGroup columns. Both products are exact in float.
  static float scale(const RowBlock& block, int group) {
    const float d = half_to_float(block.halves[0]);
    if constexpr (F::kScales == Scales::byte_pairs) return d * block.subscales[group];
    if constexpr (F::kScales == Scales::nibble_pairs) return d * (block.subscales[group] & 15);
    if constexpr (F::kScales == Scales::signed_bytes)
      return d * static_cast<int8_t>(block.subscales[group]);
    return d;
  }

  static float minimum(const RowBlock& block, int group) {
    const float m = half_to_float(block.halves[1]);
    if constexpr (F::kScales == Scales::byte_pairs) return -(m * block.subscales[8 + group]);
    if constexpr (F::kScales == Scales::nibble_pairs) return -(m * (block.subscales[group] >> 4));
    return m;
  }

 protected:
  static void store_header(const RowBlock& source, int row, uint8_t* unit) {
    for (int i = 0; i < kNumHalves; ++i) std::memcpy(unit + 16 * i + 2 * row, source.halves + i, 2);
    for (int i = 0; kIsSuper && i < 16; ++i) unit[kSubscalesAt + 8 * i + row] = source.subscales[i];
  }

  static void load_header(const uint8_t* unit, int row, RowBlock& out) {
    for (int i = 0; i < kNumHalves; ++i) out.halves[i] = read_u16(unit + 16 * i + 2 * row);
    for (int i = 0; kIsSuper && i < 16; ++i) out.subscales[i] = unit[kSubscalesAt + 8 * i + row];
  }

  static constexpr uint32_t kLowMask = 0x01010101u * ((1u << kLowBits) - 1);
  static constexpr uint32_t kHighMask = 0x01010101u * ((1u << kHighBits) - 1);

  // The four bytes of `row` in the vector that holds this chunk.
  template <int kWidth>
  static constexpr int offset_of(int chunk, int row) {
    return chunk / (8 / kWidth) * 32 + 4 * row;
  }

  // Bits [kFrom, kFrom + kWidth) of one row's codes, into its four bytes of each vector.
  template <int kWidth, int kFrom, int kNumVectors = kWidth>
  static void merge(const uint8_t* codes, int row, uint8_t* vectors) {
    constexpr uint32_t kMask = 0x01010101u * ((1u << kWidth) - 1);
    constexpr int kChunks = 8 / kWidth;
    for (int vector = 0; vector < kNumVectors; ++vector) {
      uint32_t merged = 0;
      for (int i = 0; i < kChunks; ++i)
        merged |= ((read_u32(codes + 4 * (vector * kChunks + i)) >> kFrom) & kMask) << (i * kWidth);
      std::memcpy(vectors + 32 * vector + 4 * row, &merged, 4);
    }
  }

  template <int kWidth>
  static uint32_t extract(int chunk, int row, const uint8_t* vectors) {
    return read_u32(vectors + offset_of<kWidth>(chunk, row)) >> (chunk % (8 / kWidth) * kWidth);
  }
};

}  // namespace plait::quant
