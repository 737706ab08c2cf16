// Weight formats: the block layouts of GGUF (ggml-common.h), little endian, rows of contiguous
// blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace plait {

enum class Format {
  f32,
  f16,
  bf16,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_nl
};
constexpr int kNumFormats = 14;

const char* format_name(Format format);
int64_t block_size(Format format);  // weights per block
size_t block_bytes(Format format);

// Throws std::invalid_argument.
Format format_by_name(const std::string& name);

}  // namespace plait
