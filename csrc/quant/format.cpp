#include "plait/format.h"

#include <array>
#include <stdexcept>

namespace plait {
namespace {

struct Info {
  const char* name;
  int64_t block_size;
  size_t block_bytes;
};

constexpr std::array<Info, kNumFormats> kInfo{{
    {"f32", 1, 4},
    {"f16", 1, 2},
    {"bf16", 1, 2},
    {"q4_0", 32, 18},
    {"q4_1", 32, 20},
    {"q5_0", 32, 22},
    {"q5_1", 32, 24},
    {"q8_0", 32, 34},
    {"q2_k", 256, 84},
    {"q3_k", 256, 110},
    {"q4_k", 256, 144},
    {"q5_k", 256, 176},
    {"q6_k", 256, 210},
    {"iq4_nl", 32, 18},
}};

}  // namespace

const char* format_name(Format format) {
  return kInfo[static_cast<size_t>(format)].name;
}
int64_t block_size(Format format) {
  return kInfo[static_cast<size_t>(format)].block_size;
}
size_t block_bytes(Format format) {
  return kInfo[static_cast<size_t>(format)].block_bytes;
}

Format format_by_name(const std::string& name) {
  for (int i = 0; i < kNumFormats; ++i)
    if (name == kInfo[i].name) return static_cast<Format>(i);
  throw std::invalid_argument("no weight format called '" + name + "'");
}

}  // namespace plait
