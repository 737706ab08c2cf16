// IQ4_NL, 18 bytes per 32: f16 d; u8 nibbles[16] that index a fixed table of 16 weights.
#pragma once

#include "quant/traits.h"

namespace plait::quant {

struct IQ4_NL {
  static constexpr Format kFormat = Format::iq4_nl;
  static constexpr int kBits = 4;
  static constexpr Scales kScales = Scales::plain;
  static constexpr Codes kCodes = Codes::table;
  static constexpr int kOffset = 0;
  static constexpr int8_t kTable[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                        1,    13,   25,  38,  53,  69,  89,  113};

  static void read(const uint8_t* block, RowBlock& out) {
    out.halves[0] = read_u16(block);
    read_nibbles(block + 2, out.codes);
  }
};

}  // namespace plait::quant
