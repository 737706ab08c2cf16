// What each instruction set provides for plait/measure.h.
#pragma once

#include <cstddef>
#include <cstdint>

namespace plait {

struct MeasureTable {
  // Reads kReadStreams streams of `bytes` (a multiple of 256) bytes, `bytes` apart; returns a
  // digest.
  uint64_t (*read)(const uint8_t* begin, size_t bytes);
  // `rounds` rounds of macs_per_round multiply-accumulates; returns a digest.
  uint64_t (*multiply)(int64_t rounds);
  int64_t macs_per_round;
};

}  // namespace plait
