// Q3_K, 110 bytes per 256: u8 third bits[32]; u8 low bits[64]; 12 bytes of 6-bit scales (+ 32) per
// 16; f16 d. A weight is low + 4 third - 4.
#pragma once

#include "quant/traits.h"

namespace plait::quant {

struct Q3_K {
  static constexpr Format kFormat = Format::q3_k;
  static constexpr int kBits = 3;
  static constexpr Scales kScales = Scales::signed_bytes;
  static constexpr Codes kCodes = Codes::offset;
  static constexpr int kOffset = 4;

  static void read(const uint8_t* block, RowBlock& out) {
    for (int i = 0; i < 256; ++i) {
      const uint8_t packed = block[32 + i / 128 * 32 + i % 32];
      const int low = (packed >> (i % 128 / 32 * 2)) & 3;
      const int high = (block[i % 32] >> (i / 32)) & 1;
      out.codes[i] = static_cast<uint8_t>(low | high << 2);
    }
    const uint8_t* packed = block + 96;
    for (int i = 0; i < 16; ++i) {
      const int low = i < 8 ? packed[i] & 15 : packed[i - 8] >> 4;
      const int high = (packed[8 + i % 4] >> (i / 4 * 2)) & 3;
      out.subscales[i] = static_cast<uint8_t>((low | high << 4) - 32);
    }
    out.halves[0] = read_u16(block + 108);
  }
};

}  // namespace plait::quant
