// 2:4 sparse panels on edge shapes, for the build under sanitizers: every table must give the bits
// that the generic one gives with dense panels of the same weights, and write nothing else.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "plait/linear.h"

namespace {

using namespace plait;

std::mt19937 random_bits(11);

[[noreturn]] void fail(const char* what, Format format, Isa isa, int64_t tokens) {
  std::printf("FAILED: %s (%s, %s, %lld tokens)\n", what, format_name(format), isa_name(isa),
              static_cast<long long>(tokens));
  std::exit(1);
}

void set_bits(uint8_t& byte, int shift, int mask, int value) {
  byte = static_cast<uint8_t>((byte & ~(mask << shift)) | value << shift);
}

// Makes the weight of one column of a block zero.
void clear(Format format, uint8_t* block, int column) {
  const int i = column % 32, quarter = column / 32;
  if (format == Format::q8_0) block[2 + column] = 0;
  if (format == Format::q4_0) set_bits(block[2 + i % 16], i / 16 * 4, 15, 8);
  if (format != Format::q6_k) return;
  set_bits(block[quarter / 4 * 64 + quarter % 2 * 32 + i], quarter % 4 / 2 * 4, 15, 0);
  set_bits(block[128 + quarter / 4 * 32 + i], quarter % 4 * 2, 3, 2);
}

// Random weights, of each four at most two not zero.
std::vector<uint8_t> random_raw(Format format, int64_t rows, int64_t cols) {
  const size_t size = block_bytes(format);
  std::vector<uint8_t> raw(raw_bytes(format, rows, cols));
  for (auto& byte : raw) byte = static_cast<uint8_t>(random_bits());
  for (size_t at = 0; at < raw.size(); at += size) {
    const auto half = static_cast<uint16_t>(0x1c00 + random_bits() % 2048);
    std::memcpy(raw.data() + at + (format == Format::q6_k ? 208 : 0), &half, 2);
    for (int first = 0; first < block_size(format); first += 4) {
      const int one = static_cast<int>(random_bits() % 4), more = random_bits() % 8 == 0;
      for (int i = 0; i < 2 + more; ++i) clear(format, raw.data() + at, first + (one + i) % 4);
    }
  }
  return raw;
}

// Rows of activations whose first and last blocks are fine.
struct Activations {
  std::vector<ActBlock> blocks;
  std::vector<float> scales;
  std::vector<int32_t> fine;
  QuantizedRows rows;

  Activations(int64_t tokens, int64_t cols)
      : scales(static_cast<size_t>(tokens)), fine{0, static_cast<int32_t>(cols / 32 - 1)} {
    if (cols == 32) fine.pop_back();
    rows = {nullptr, nullptr, cols, fine.data(), static_cast<int64_t>(fine.size())};
    blocks.resize(static_cast<size_t>(tokens * rows.stride()));
    for (ActBlock& block : blocks) fill(block);
    for (auto& scale : scales) scale = 1e-5f * static_cast<float>(1 + random_bits() % 100);
    rows.blocks = blocks.data();
    rows.scales = scales.data();
  }

 private:
  static void fill(ActBlock& block) {
    int32_t sums[2] = {0, 0};
    for (auto& multiplier : block.multipliers)
      multiplier[0] = multiplier[1] = static_cast<uint16_t>(1 + random_bits() % kLargestMultiplier);
    for (int i = 0; i < 32; ++i) {
      block.values[i] = static_cast<int8_t>(static_cast<int>(random_bits() % 255) - 127);
      sums[i / 16] += block.multipliers[i / 16][0] * block.values[i];
    }
    block.first_sum = sums[0];
    block.sum = sums[0] + sums[1];
  }
};

// The panels [begin, end), with a margin around each row that must stay 7.
std::vector<float> run(const PackedMatrix& matrix, const Activations& x, int64_t tokens, Isa isa,
                       int64_t begin, int64_t end) {
  const int64_t stride = matrix.rows() + 16;
  std::vector<float> out(static_cast<size_t>(tokens * stride), 7.0f);
  LinearScratch scratch;
  linear_int8(isa, matrix, x.rows, tokens, begin, end, {out.data() + 8, stride, nullptr, false},
              scratch);
  return out;
}

void check_shape(Format format, int64_t rows, int64_t cols, Pool& pool) {
  const std::vector<uint8_t> raw = random_raw(format, rows, cols);
  const PackedMatrix dense(format, rows, cols, raw.data(), pool);
  const PackedMatrix sparse(format, rows, cols, raw.data(), pool, Packing::sparse);
  if (dense.is_sparse() || !sparse.is_sparse() || sparse.bytes() >= dense.bytes())
    fail("not packed as asked", format, Isa::generic, 0);
  std::vector<float> want(cols), got(cols);
  for (int64_t row = 0; row < rows; ++row) {
    dense.dequantize_row(row, want.data());
    sparse.dequantize_row(row, got.data());
    if (want != got) fail("packing changed a weight", format, Isa::generic, 0);
  }
  const int64_t panels = dense.num_panels();
  for (int64_t tokens : {1, 2, 3, 5, 8, 9, 15, 16, 17, 33}) {
    const Activations x(tokens, cols);
    for (const auto& [begin, end] :
         {std::pair<int64_t, int64_t>{0, panels}, {panels / 2, panels}}) {
      const std::vector<float> expected = run(dense, x, tokens, Isa::generic, begin, end);
      for (Isa isa : runnable_isas())
        for (int64_t from : {1, 1000}) {
          set_expand_from(isa, format, true, from);
          const std::vector<float> found = run(sparse, x, tokens, isa, begin, end);
          if (std::memcmp(found.data(), expected.data(), 4 * found.size()) != 0)
            fail("bits differ from the dense panels", format, isa, tokens);
        }
    }
  }
}

// One group with three weights keeps the whole matrix dense, wherever it is.
void check_almost_sparse(Format format, Pool& pool) {
  const int64_t rows = 9, cols = 2 * block_size(format);
  const std::vector<uint8_t> clean = random_raw(format, rows, cols);
  const size_t size = block_bytes(format);
  for (size_t at : {size_t{0}, clean.size() / size / 2 * size, clean.size() - size}) {
    std::vector<uint8_t> raw = clean;
    std::memset(raw.data() + at + (format == Format::q6_k ? 0 : 2), 0x55, size / 2);
    if (PackedMatrix(format, rows, cols, raw.data(), pool, Packing::sparse).is_sparse())
      fail("dense weights were packed as sparse", format, Isa::generic, 0);
  }
}

}  // namespace

int main() {
  Pool pool(2);
  for (int i = 0; i < kNumFormats; ++i) {
    const auto format = static_cast<Format>(i);
    const int64_t block = block_size(format);
    if (!has_sparse_panels(format)) {
      const std::vector<uint8_t> zeros(raw_bytes(format, 8, block));
      if (PackedMatrix(format, 8, block, zeros.data(), pool, Packing::sparse).is_sparse())
        fail("a format without sparse panels", format, Isa::generic, 0);
      continue;
    }
    for (int64_t rows : {1, 8, 69}) check_shape(format, rows, block, pool);
    check_shape(format, 69, 3 * block, pool);
    check_almost_sparse(format, pool);
  }
  for (Isa isa : runnable_isas()) std::printf("%s ", isa_name(isa));
  std::puts("sparse: ok");
}
