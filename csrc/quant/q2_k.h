// Q2_K, 84 bytes per 256: u8 scale and minimum nibbles[16]; u8 codes[64]; f16 d, dmin. Per 128
// columns 32 bytes with two bits for each quarter.
#pragma once

#include "quant/traits.h"

namespace plait::quant {

struct Q2_K {
  static constexpr Format kFormat = Format::q2_k;
  static constexpr int kBits = 2;
  static constexpr Scales kScales = Scales::nibble_pairs;
  static constexpr Codes kCodes = Codes::offset;
  static constexpr int kOffset = 0;

  static void read(const uint8_t* block, RowBlock& out) {
    std::memcpy(out.subscales, block, 16);
    for (int i = 0; i < 256; ++i) {
      const uint8_t packed = block[16 + i / 128 * 32 + i % 32];
      out.codes[i] = (packed >> (i % 128 / 32 * 2)) & 3;
    }
    out.halves[0] = read_u16(block + 80);
    out.halves[1] = read_u16(block + 82);
  }
};

}  // namespace plait::quant
