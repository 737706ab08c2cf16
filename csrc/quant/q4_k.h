// Q4_K, 144 bytes per 256: f16 d, dmin; 12 bytes of 6-bit scales and minima per 32; u8
// nibbles[128], where 32 bytes hold 64 columns: low nibbles the first 32, high nibbles the second.
#pragma once

#include "quant/traits.h"

namespace plait::quant {

struct Q4_K {
  static constexpr Format kFormat = Format::q4_k;
  static constexpr int kBits = 4;
  static constexpr Scales kScales = Scales::byte_pairs;
  static constexpr Codes kCodes = Codes::offset;
  static constexpr int kOffset = 0;

  static void read(const uint8_t* block, RowBlock& out) {
    out.halves[0] = read_u16(block);
    out.halves[1] = read_u16(block + 2);
    read_six_bit_pairs(block + 4, out.subscales);
    for (int pair = 0; pair < 4; ++pair) {
      const uint8_t* packed = block + 16 + 32 * pair;
      uint8_t* codes = out.codes + 64 * pair;
      for (int i = 0; i < 32; ++i) codes[i] = packed[i] & 15;
      for (int i = 0; i < 32; ++i) codes[32 + i] = packed[i] >> 4;
    }
  }
};

}  // namespace plait::quant
