// Q5_1, 24 bytes per 32: f16 d, m; u32 fifth bits; u8 nibbles[16].
#pragma once

#include "quant/traits.h"

namespace plait::quant {

struct Q5_1 {
  static constexpr Format kFormat = Format::q5_1;
  static constexpr int kBits = 5;
  static constexpr Scales kScales = Scales::with_min;
  static constexpr Codes kCodes = Codes::offset;
  static constexpr int kOffset = 0;

  static void read(const uint8_t* block, RowBlock& out) {
    out.halves[0] = read_u16(block);
    out.halves[1] = read_u16(block + 2);
    read_nibbles(block + 8, out.codes);
    read_fifth_bits(block + 4, out.codes);
  }
};

}  // namespace plait::quant
