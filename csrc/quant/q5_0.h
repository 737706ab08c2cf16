// Q5_0, 22 bytes per 32: f16 d; u32 fifth bits; u8 nibbles[16].
#pragma once

#include "quant/traits.h"

namespace plait::quant {

struct Q5_0 {
  static constexpr Format kFormat = Format::q5_0;
  static constexpr int kBits = 5;
  static constexpr Scales kScales = Scales::plain;
  static constexpr Codes kCodes = Codes::offset;
  static constexpr int kOffset = 16;

  static void read(const uint8_t* block, RowBlock& out) {
    out.halves[0] = read_u16(block);
    read_nibbles(block + 6, out.codes);
    read_fifth_bits(block + 2, out.codes);
  }
};

}  // namespace plait::quant
