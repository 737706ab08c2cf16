// Q4_0, 18 bytes per 32: f16 d; u8 nibbles[16].
#pragma once

#include "quant/traits.h"

namespace plait::quant {

struct Q4_0 {
  static constexpr Format kFormat = Format::q4_0;
  static constexpr int kBits = 4;
  static constexpr Scales kScales = Scales::plain;
  static constexpr Codes kCodes = Codes::offset;
  static constexpr int kOffset = 8;

  static void read(const uint8_t* block, RowBlock& out) {
    out.halves[0] = read_u16(block);
    read_nibbles(block + 2, out.codes);
  }
};

}  // namespace plait::quant
