// Q6_K, 210 bytes per 256: u8 low[128]; u8 high[64]; i8 scales[16]; f16 d. Per 128 columns 64 bytes
// of low nibbles (columns 0..63 low, 64..127 high halves) and 32 bytes with two high bits for each
// quarter.
#pragma once

#include "quant/traits.h"

namespace plait::quant {

struct Q6_K {
  static constexpr Format kFormat = Format::q6_k;
  static constexpr int kBits = 6;
  static constexpr Scales kScales = Scales::signed_bytes;
  static constexpr Codes kCodes = Codes::offset;
  static constexpr int kOffset = 32;

  static void read(const uint8_t* block, RowBlock& out) {
    for (int quarter = 0; quarter < 8; ++quarter) {
      const uint8_t* low = block + quarter / 4 * 64 + quarter % 2 * 32;
      const uint8_t* high = block + 128 + quarter / 4 * 32;
      const int low_shift = quarter % 4 / 2 * 4, high_shift = quarter % 4 * 2;
      uint8_t* codes = out.codes + 32 * quarter;
      for (int i = 0; i < 32; ++i) {
        const int two = (high[i] >> high_shift) & 3;
        codes[i] = static_cast<uint8_t>(((low[i] >> low_shift) & 15) | two << 4);
      }
    }
    std::memcpy(out.subscales, block + 192, 16);
    out.halves[0] = read_u16(block + 208);
  }
};

}  // namespace plait::quant
