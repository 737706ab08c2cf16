// Packing and the linear kernels on edge shapes, for the build under sanitizers. Every table must
// give the bits of the generic one, the generic one must agree with plain double arithmetic, and
// nothing outside the asked rows may be written.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "plait/linear.h"

namespace {

using namespace plait;

std::mt19937 random_bits(7);

[[noreturn]] void fail(const char* what, Format format, Isa isa, int64_t tokens) {
  std::printf("FAILED: %s (%s, %s, %lld tokens)\n", what, format_name(format), isa_name(isa),
              static_cast<long long>(tokens));
  std::exit(1);
}

float uniform(float low, float high) {
  return std::uniform_real_distribution<float>(low, high)(random_bits);
}

// An f16 between 2^-8 and 2^-6, either sign.
uint16_t sane_half() {
  const uint32_t bits = random_bits();
  return static_cast<uint16_t>((bits & 0x83ff) | (7 + (bits >> 16) % 2) << 10);
}

// Where the f16 numbers of a block are.
std::vector<size_t> halves_of(Format format) {
  switch (format) {
    case Format::q4_0:
    case Format::q5_0:
    case Format::q8_0:
    case Format::iq4_nl:
      return {0};
    case Format::q4_1:
    case Format::q5_1:
    case Format::q4_k:
    case Format::q5_k:
      return {0, 2};
    case Format::q2_k:
      return {80, 82};
    case Format::q3_k:
      return {108};
    case Format::q6_k:
      return {208};
    default:
      return {};
  }
}

std::vector<uint8_t> random_raw(Format format, int64_t rows, int64_t cols, bool is_hostile) {
  const size_t size = block_bytes(format);
  std::vector<uint8_t> raw(static_cast<size_t>(rows * cols / block_size(format)) * size);
  for (auto& byte : raw) byte = static_cast<uint8_t>(random_bits());
  if (is_hostile) return raw;
  for (size_t block = 0; block < raw.size(); block += size) {
    for (size_t at : halves_of(format)) {
      const uint16_t half = sane_half();
      std::memcpy(raw.data() + block + at, &half, 2);
    }
    const uint16_t half = sane_half();
    const float single = uniform(-1, 1);
    uint32_t bits;
    std::memcpy(&bits, &single, 4);
    const auto bfloat = static_cast<uint16_t>(bits >> 16);
    if (format == Format::f16) std::memcpy(raw.data() + block, &half, 2);
    if (format == Format::bf16) std::memcpy(raw.data() + block, &bfloat, 2);
    if (format == Format::f32) std::memcpy(raw.data() + block, &single, 4);
  }
  return raw;
}

struct Activations {
  std::vector<float> x, scales;
  std::vector<ActBlock> blocks;
  std::vector<int32_t> fine;  // the last block, when there are blocks
  int64_t cols;
  int64_t stride;

  Activations(Isa isa, int64_t tokens, int64_t num_cols)
      : x(tokens * num_cols), scales(tokens), cols(num_cols), stride(cols / 32 + 1) {
    for (auto& value : x) value = uniform(-2, 2);
    if (cols % 32 != 0) return;
    fine.push_back(static_cast<int32_t>(cols / 32 - 1));
    blocks.resize(tokens * stride);
    for (int64_t t = 0; t < tokens; ++t) {
      const float* row = x.data() + t * cols;
      ActBlock* to = blocks.data() + t * stride;
      scales[t] = row_scale(isa, row, cols);
      quantize_blocks(isa, row, cols / 32, scales[t], to);
      quantize_rest(isa, row + cols - 32, to[cols / 32 - 1], scales[t], to + cols / 32);
    }
  }

  QuantizedRows rows() const {
    return {blocks.data(), scales.data(), cols, fine.data(), static_cast<int64_t>(fine.size())};
  }
  double value(int64_t token, int64_t k, bool is_int8) const {
    if (!is_int8) return x[token * cols + k];
    const double held = part(token, k / 32, k % 32);
    return k < cols - 32 ? held : held + kRestScale * part(token, k / 32 + 1, k % 32);
  }

 private:
  double part(int64_t token, int64_t index, int64_t i) const {
    const ActBlock& block = blocks[token * stride + index];
    return static_cast<double>(block.values[i]) * block.multipliers[i / 16][0] * scales[token];
  }
};

struct Case {
  const PackedMatrix& matrix;
  const Activations& x;
  int64_t tokens;
  bool is_int8;
  const float* bias;
  bool accumulate;
};

// The output with a margin around each row that must stay 7.
std::vector<float> run(const Case& c, Isa isa, int64_t begin, int64_t end) {
  const int64_t stride = c.matrix.rows() + 16;
  std::vector<float> out(c.tokens * stride, 7.0f);
  const LinearOutput output{out.data() + 8, stride, c.bias, c.accumulate};
  LinearScratch scratch;
  if (c.is_int8)
    linear_int8(isa, c.matrix, c.x.rows(), c.tokens, begin, end, output, scratch);
  else
    linear_f32(isa, c.matrix, c.x.x.data(), c.x.cols, c.tokens, begin, end, output, scratch);
  return out;
}

void check_values(const Case& c, const std::vector<float>& out) {
  const int64_t stride = c.matrix.rows() + 16;
  std::vector<float> weights(c.matrix.cols());
  for (int64_t row = 0; row < c.matrix.rows(); ++row) {
    c.matrix.dequantize_row(row, weights.data());
    for (int64_t t = 0; t < c.tokens; ++t) {
      double want = 0, size = 1;
      for (int64_t k = 0; k < c.matrix.cols(); ++k) {
        const double product = weights[k] * c.x.value(t, k, c.is_int8);
        want += product;
        size += std::fabs(product);
      }
      want += (c.bias != nullptr ? c.bias[row] : 0.0) + (c.accumulate ? 7.0 : 0.0);
      const double got = out[t * stride + 8 + row];
      if (!(std::fabs(got - want) <= 1e-5 * size))
        fail("values differ from double arithmetic", c.matrix.format(), Isa::generic, c.tokens);
    }
  }
}

void check_margins(const Case& c, const std::vector<float>& out, Isa isa, int64_t begin,
                   int64_t end) {
  const int64_t stride = c.matrix.rows() + 16;
  const int64_t first = 8 * begin, last = 8 * end < c.matrix.rows() ? 8 * end : c.matrix.rows();
  for (size_t i = 0; i < out.size(); ++i) {
    const int64_t row = static_cast<int64_t>(i) % stride - 8;
    if ((row < first || row >= last) && out[i] != 7.0f)
      fail("wrote outside the panels", c.matrix.format(), isa, c.tokens);
  }
}

// Rows of the panels [begin, end) have the generic table's bits, all others are as they were.
void check_range(const Case& c, const std::vector<float>& whole, Isa isa, int64_t begin,
                 int64_t end) {
  const std::vector<float> out = run(c, isa, begin, end);
  check_margins(c, out, isa, begin, end);
  const int64_t stride = c.matrix.rows() + 16;
  const int64_t first = 8 * begin, last = 8 * end < c.matrix.rows() ? 8 * end : c.matrix.rows();
  for (int64_t t = 0; t < c.tokens; ++t) {
    const int64_t at = t * stride + 8 + first;
    if (std::memcmp(&out[at], &whole[at], static_cast<size_t>(last - first) * 4) != 0)
      fail("bits differ from the generic table", c.matrix.format(), isa, c.tokens);
  }
}

void check_case(const Case& c) {
  const int64_t panels = c.matrix.num_panels();
  const std::vector<float> whole = run(c, Isa::generic, 0, panels);
  check_values(c, whole);
  for (Isa isa : runnable_isas()) {
    for (int64_t from : {1000, 4}) {
      set_expand_from(isa, c.matrix.format(), false, from);
      check_range(c, whole, isa, 0, panels);
    }
    if (panels < 3) continue;
    check_range(c, whole, isa, 1, panels - 1);
    check_range(c, whole, isa, 1, 2);
  }
}

void check_shape(Format format, int64_t rows, int64_t cols, const std::vector<int64_t>& counts,
                 Pool& pool) {
  const PackedMatrix matrix(format, rows, cols, random_raw(format, rows, cols, false).data(), pool);
  std::vector<float> bias(rows);
  for (auto& value : bias) value = uniform(-1, 1);
  for (int64_t tokens : counts) {
    const Activations x(best_isa(), tokens, cols);
    for (bool is_int8 : {true, false}) {
      if (is_int8 && !has_int8_path(format)) continue;
      check_case({matrix, x, tokens, is_int8, nullptr, false});
      check_case({matrix, x, tokens, is_int8, bias.data(), true});
    }
  }
}

// Any bytes at all, infinite and undefined scales among them: no crash, no stray write.
void check_hostile(Format format, Pool& pool) {
  const int64_t rows = 13, cols = 256;
  const PackedMatrix matrix(format, rows, cols, random_raw(format, rows, cols, true).data(), pool);
  for (int64_t tokens : {1, 5, 40})
    for (Isa isa : runnable_isas()) {
      const Activations x(isa, tokens, cols);
      for (bool is_int8 : {true, false}) {
        if (is_int8 && !has_int8_path(format)) continue;
        const Case c{matrix, x, tokens, is_int8, nullptr, false};
        check_margins(c, run(c, isa, 0, matrix.num_panels()), isa, 0, matrix.num_panels());
      }
    }
}

// The row's scale, its blocks, then what the second block leaves over.
std::vector<uint8_t> quantized(Isa isa, const std::vector<float>& x, float* scale) {
  const int64_t count = static_cast<int64_t>(x.size()) / 32;
  std::vector<ActBlock> blocks(static_cast<size_t>(count + 1));
  *scale = row_scale(isa, x.data(), static_cast<int64_t>(x.size()));
  quantize_blocks(isa, x.data(), count, *scale, blocks.data());
  quantize_rest(isa, x.data() + 32, blocks[1], *scale, &blocks[static_cast<size_t>(count)]);
  std::vector<uint8_t> bytes(blocks.size() * sizeof(ActBlock));
  std::memcpy(bytes.data(), blocks.data(), bytes.size());
  return bytes;
}

void check_quantize() {
  std::vector<float> plain(32 * 8);
  for (auto& value : plain) value = uniform(-3, 3) * std::pow(10.0f, uniform(-3, 3));
  for (size_t i = 64; i < 96; ++i) plain[i] = 0;
  for (size_t i = 96; i < 128; ++i) plain[i] *= 1e-36f;
  std::vector<float> wild = plain, tiny = plain;
  wild[100] = NAN, wild[130] = INFINITY, wild[165] = -INFINITY, wild[166] = NAN;
  for (auto& value : tiny) value *= 1e-35f;
  for (const auto& x : {plain, wild, tiny, std::vector<float>(64, 0.0f)}) {
    float want_scale, scale;
    const std::vector<uint8_t> want = quantized(Isa::generic, x, &want_scale);
    if (!std::isfinite(want_scale)) fail("a scale is not finite", Format::f32, Isa::generic, 1);
    for (Isa isa : runnable_isas())
      if (quantized(isa, x, &scale) != want || scale != want_scale)
        fail("quantised rows differ from the generic ones", Format::f32, isa, 1);
  }
}

void check_refusals(Pool& pool) {
  const uint8_t nothing[34] = {};
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{1, 31}, {0, 32}, {-1, 32}, {1, 0}}) {
    try {
      const PackedMatrix matrix(Format::q8_0, rows, cols, nothing, pool);
    } catch (const std::invalid_argument&) {
      continue;
    }
    fail("an impossible shape was accepted", Format::q8_0, Isa::generic, 0);
  }
}

}  // namespace

int main() {
  Pool pool(2);
  for (int i = 0; i < kNumFormats; ++i) {
    const auto format = static_cast<Format>(i);
    const int64_t block = block_size(format);
    check_shape(format, 1, block, {1, 2, 7, 33}, pool);
    check_shape(format, 8, block == 1 ? 33 : block, {1, 2, 7, 33}, pool);
    // Enough panels for tiles of 4 vectors of two panels, and half a vector left over.
    check_shape(format, 69, block == 1 ? 300 : 2 * block, {1, 2, 3, 4, 5, 6, 7, 8, 9, 33}, pool);
    check_hostile(format, pool);
  }
  check_quantize();
  check_refusals(pool);
  for (Isa isa : runnable_isas()) std::printf("%s ", isa_name(isa));
  std::puts("linear: ok");
}
