// Q5_K, 176 bytes per 256: as Q4_K, with u8 fifth[32] before the nibbles: bit j of fifth[l] belongs
// to column 32 j + l.
#pragma once

#include "quant/traits.h"

namespace plait::quant {

struct Q5_K {
  static constexpr Format kFormat = Format::q5_k;
  static constexpr int kBits = 5;
  static constexpr Scales kScales = Scales::byte_pairs;
  static constexpr Codes kCodes = Codes::offset;
  static constexpr int kOffset = 0;

  static void read(const uint8_t* block, RowBlock& out) {
    out.halves[0] = read_u16(block);
    out.halves[1] = read_u16(block + 2);
    read_six_bit_pairs(block + 4, out.subscales);
    for (int i = 0; i < 256; ++i) {
      const uint8_t packed = block[48 + i / 64 * 32 + i % 32];
      const int fifth = (block[16 + i % 32] >> (i / 32)) & 1;
      out.codes[i] = static_cast<uint8_t>((i % 64 < 32 ? packed & 15 : packed >> 4) | fifth << 4);
    }
  }
};

}  // namespace plait::quant
