// The packed layout of a matrix in two planes, for formats with more than 4 bits and no minimum:
// the low 4 bits of every weight apart from the others and all scales. With
//   w = 16 (high - High::kOffset) + low,   low from 0 to 15,
// per unit of the format's panel (panel.h):
//
//   high plane   the unit of a panel whose codes are the high bits
//   low plane    the low bits, ordered as the low bits of a panel: 128 bytes per 32 columns
//
// All high panels of a matrix come first, then all low ones. Lossless, and as large as one plane.
#pragma once

#include <cstdlib>

#include "quant/panel.h"
#include "quant/q6_k.h"
#include "quant/q8_0.h"

namespace plait::quant {

template <class F>
struct Planes : Panel<F> {
  using Whole = Panel<F>;
  static_assert(F::kBits > 4 && !Whole::kHasMin && F::kCodes != Codes::table);

  // What a high plane alone is: the weights without their low bits, in units of 16.
  struct High {
    static constexpr int kBits = F::kBits - 4;
    static constexpr Scales kScales = F::kScales;
    static constexpr Codes kCodes = Codes::offset;
    static constexpr int kOffset = 1 << (kBits - 1);
  };
  static constexpr int kHighBlockBytes = Panel<High>::kBlockBytes;
  static constexpr int kHighBytes = Panel<High>::kUnitBytes;
  static constexpr int kLowBlockBytes = 128;
  static constexpr int kLowBytes = Whole::kUnitBlocks * kLowBlockBytes;

  // One unit, from one block of each of the 8 rows.
  static void store(const RowBlock (&rows)[kPanelRows], uint8_t* high, uint8_t* low) {
    for (int row = 0; row < kPanelRows; ++row) {
      Whole::store_header(rows[row], row, high);
      for (int block = 0; block < Whole::kUnitBlocks; ++block) {
        const uint8_t* codes = rows[row].codes + 32 * block;
        uint8_t flipped[32];
        if constexpr (kFlip != 0) {
          for (int i = 0; i < 32; ++i) flipped[i] = codes[i] ^ kFlip;
          codes = flipped;
        }
        uint8_t* highs = high + Whole::kHeaderBytes + block * kHighBlockBytes;
        Whole::template merge<High::kBits, 4>(codes, row, highs);
        Whole::template merge<4, 0>(codes, row, low + block * kLowBlockBytes);
      }
    }
  }

  // The inverse of store, for one row.
  static void load(const uint8_t* high, const uint8_t* low, int row, RowBlock& out) {
    Panel<High>::load(high, row, out);
    for (int chunk = 0; chunk < Whole::kUnitColumns / 4; ++chunk) {
      const uint8_t* lows = low + chunk / 8 * kLowBlockBytes;
      const uint32_t codes = read_u32(out.codes + 4 * chunk) << 4 |
                             (Whole::template extract<4>(chunk % 8, row, lows) & 0x0f0f0f0fu);
      const uint32_t stored = codes ^ 0x01010101u * kFlip;
      std::memcpy(out.codes + 4 * chunk, &stored, 4);
    }
  }

 private:
  // Makes a signed code an unsigned one with the same order.
  static constexpr uint8_t kFlip = F::kCodes == Codes::twos_complement ? 128 : 0;
  static_assert(kFlip != 0 || F::kOffset == 16 * High::kOffset);
};

inline bool has_planes(Format format) {
  return format == Format::q8_0 || format == Format::q6_k;
}

// Calls visitor.template operator()<F>() for a format that has_planes().
template <class Visitor>
inline decltype(auto) visit_planes(Format format, Visitor&& visitor) {
  if (format == Format::q8_0) return visitor.template operator()<Q8_0>();
  if (format == Format::q6_k) return visitor.template operator()<Q6_K>();
  std::abort();
}

}  // namespace plait::quant
