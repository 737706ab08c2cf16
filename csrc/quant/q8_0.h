// Q8_0, 34 bytes per 32: f16 d; i8 weights[32].
#pragma once

#include "quant/traits.h"

namespace plait::quant {

struct Q8_0 {
  static constexpr Format kFormat = Format::q8_0;
  static constexpr int kBits = 8;
  static constexpr Scales kScales = Scales::plain;
  static constexpr Codes kCodes = Codes::twos_complement;
  static constexpr int kOffset = 0;

  static void read(const uint8_t* block, RowBlock& out) {
    out.halves[0] = read_u16(block);
    std::memcpy(out.codes, block + 2, 32);
  }
};

}  // namespace plait::quant
