// The packed layout of Q8_0 in two planes. With w + 128 = 16 high + low, per unit of 32 columns and
// 8 rows:
//
//   high plane   d of the 8 rows, f16, then the high halves: 16 + 128 bytes; laid out like the
//   panel
//                of a format with 4 bits (panel.h), weight d * 16 * (high - 8)
//   low plane    the low halves in the same order: 128 bytes
//
// All high panels of a matrix come first, then all low ones. Lossless, and as large as one plane.
#pragma once

#include "quant/panel.h"
#include "quant/q8_0.h"

namespace plait::quant {

struct Planes {
  using Whole = Panel<Q8_0>;
  static constexpr int kColumns = 32;
  static constexpr int kHeaderBytes = 16;
  static constexpr int kLowBytes = 128;
  static constexpr int kHighBytes = kHeaderBytes + kLowBytes;

  // One unit, from one block of each of the 8 rows.
  static void store(const RowBlock (&rows)[kPanelRows], uint8_t* high, uint8_t* low) {
    uint8_t unit[Whole::kUnitBytes];
    Whole::store(rows, unit);
    std::memcpy(high, unit, kHeaderBytes);
    // Chunks 2 i and 2 i + 1 share a vector: the first in its low, the second in its high bits.
    for (int at = 0; at < kLowBytes; at += 8) {
      const uint8_t* chunk = unit + kHeaderBytes + at / 32 * 64 + at % 32;
      const uint64_t first = read_u64(chunk) ^ kFlip, second = read_u64(chunk + 32) ^ kFlip;
      const uint64_t highs = (first >> 4 & kLowHalves) | (second & ~kLowHalves);
      const uint64_t lows = (first & kLowHalves) | (second << 4 & ~kLowHalves);
      std::memcpy(high + kHeaderBytes + at, &highs, 8);
      std::memcpy(low + at, &lows, 8);
    }
  }

  // The inverse of store, for one row.
  static void load(const uint8_t* high, const uint8_t* low, int row, RowBlock& out) {
    out.halves[0] = read_u16(high + 2 * row);
    for (int chunk = 0; chunk < kColumns / 4; ++chunk) {
      const int at = chunk / 2 * 32 + 4 * row, shift = chunk % 2 * 4;
      const uint32_t highs = read_u32(high + kHeaderBytes + at) >> shift & kLow;
      const uint32_t lows = read_u32(low + at) >> shift & kLow;
      const uint32_t codes = (highs << 4 | lows) ^ static_cast<uint32_t>(kFlip);
      std::memcpy(out.codes + 4 * chunk, &codes, 4);
    }
  }

 private:
  static constexpr uint64_t kFlip = 0x8080808080808080u;
  static constexpr uint64_t kLowHalves = 0x0f0f0f0f0f0f0f0fu;
  static constexpr uint32_t kLow = 0x0f0f0f0fu;

  static uint64_t read_u64(const uint8_t* at) {
    uint64_t value;
    std::memcpy(&value, at, 8);
    return value;
  }
};

}  // namespace plait::quant
