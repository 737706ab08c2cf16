// What a block format is made of. Each <format>.h says how to read one of its blocks into a
// RowBlock; panel.h lays RowBlocks out for the kernels and knows nothing of the source layouts.
#pragma once

#include <cstdint>
#include <cstring>

#include "plait/format.h"
#include "quant/half.h"

namespace plait::quant {

// How an integer weight q becomes a float. d, m, dmin are f16, one per block and row.
enum class Scales {
  plain,         // blocks of 32:  d q
  with_min,      // blocks of 32:  d q + m
  byte_pairs,    // blocks of 256: (d s) q - (dmin m), a byte s and a byte m per 32
  nibble_pairs,  // blocks of 256: the same, s in the low and m in the high nibble of a byte per 16
  signed_bytes,  // blocks of 256: (d s) q, a signed byte s per 16
};

// How a stored code becomes the integer weight q.
enum class Codes {
  offset,           // q = code - kOffset, code unsigned
  twos_complement,  // q = int8(code)
  table,            // q = kTable[code]
};

// One block of one row, taken apart.
struct RowBlock {
  uint8_t codes[256];     // one per column, kBits wide
  uint16_t halves[2];     // d, then m or dmin
  uint8_t subscales[16];  // byte_pairs: 8 times s, 8 times m; else one per 16 columns
};

// 32 codes from 16 bytes: low nibbles are columns 0..15, high nibbles columns 16..31.
inline void read_nibbles(const uint8_t* packed, uint8_t* codes) {
  for (int i = 0; i < 16; ++i) {
    codes[i] = packed[i] & 15;
    codes[i + 16] = packed[i] >> 4;
  }
}

// The fifth bit of each of 32 codes. Eight at a time: copies of a byte, each with another bit kept,
// carry into their top bit where that bit is set.
inline void read_fifth_bits(const uint8_t* packed, uint8_t* codes) {
  constexpr uint64_t kOnes = 0x0101010101010101u;
  for (int i = 0; i < 4; ++i) {
    const uint64_t kept = packed[i] * kOnes & 0x8040201008040201u;
    const uint64_t bits = (kept + 0x7f * kOnes) >> 7 & kOnes;
    uint64_t eight;
    std::memcpy(&eight, codes + 8 * i, 8);
    eight |= bits << 4;
    std::memcpy(codes + 8 * i, &eight, 8);
  }
}

// Eight 6-bit scales and eight 6-bit minima from the 12 bytes of Q4_K and Q5_K.
inline void read_six_bit_pairs(const uint8_t* packed, uint8_t* subscales) {
  for (int i = 0; i < 4; ++i) {
    subscales[i] = packed[i] & 63;
    subscales[i + 4] = static_cast<uint8_t>((packed[i + 8] & 15) | ((packed[i] >> 6) << 4));
    subscales[i + 8] = packed[i + 4] & 63;
    subscales[i + 12] = static_cast<uint8_t>((packed[i + 8] >> 4) | ((packed[i + 4] >> 6) << 4));
  }
}

}  // namespace plait::quant
