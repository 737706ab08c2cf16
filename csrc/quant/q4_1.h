// Q4_1, 20 bytes per 32: f16 d, m; u8 nibbles[16].
#pragma once

#include "quant/traits.h"

namespace plait::quant {

struct Q4_1 {
  static constexpr Format kFormat = Format::q4_1;
  static constexpr int kBits = 4;
  static constexpr Scales kScales = Scales::with_min;
  static constexpr Codes kCodes = Codes::offset;
  static constexpr int kOffset = 0;

  static void read(const uint8_t* block, RowBlock& out) {
    out.halves[0] = read_u16(block);
    out.halves[1] = read_u16(block + 2);
    read_nibbles(block + 4, out.codes);
  }
};

}  // namespace plait::quant
