#include <atomic>

#include "ops/linear_table.h"
#include "quant/formats.h"

namespace plait {

namespace generic {
const LinearTable& linear_table();
}
namespace avx2 {
const LinearTable& linear_table();
}
namespace avxvnni {
const LinearTable& linear_table();
}
namespace avx512vnni {
const LinearTable& linear_table();
}
namespace neon {
const LinearTable& linear_table();
}
namespace neondot {
const LinearTable& linear_table();
}
namespace neoni8mm {
const LinearTable& linear_table();
}

namespace {

const LinearTable& table_of(Isa isa) {
#if defined(PLAIT_HAS_avx512vnni)
  if (isa == Isa::avx512vnni) return avx512vnni::linear_table();
#endif
#if defined(PLAIT_HAS_avxvnni)
  if (isa == Isa::avxvnni) return avxvnni::linear_table();
#endif
#if defined(PLAIT_HAS_avx2)
  if (isa == Isa::avx2) return avx2::linear_table();
#endif
#if defined(PLAIT_HAS_neoni8mm)
  if (isa == Isa::neoni8mm) return neoni8mm::linear_table();
#endif
#if defined(PLAIT_HAS_neondot)
  if (isa == Isa::neondot) return neondot::linear_table();
#endif
#if defined(PLAIT_HAS_neon)
  if (isa == Isa::neon) return neon::linear_table();
#endif
  (void)isa;
  return generic::linear_table();
}

// For one row or two AVX-512 has nothing to do: the halves of its vectors are of two panels, and
// putting them together takes longer than it saves (Zen 4: up to 30%). AVX2 comes to the same bits.
constexpr int64_t kFewRows = 2;

const LinearTable& table_for(Isa isa, [[maybe_unused]] int64_t num_rows) {
#if defined(PLAIT_HAS_avx2)
  if (isa == Isa::avx512vnni && num_rows <= kFewRows) return avx2::linear_table();
#endif
  return table_of(isa);
}

// Until something else was measured: on an AVX2 processor the best was 7 to 32, by format.
constexpr int64_t kExpandFrom = 16;

// 0 where nothing was set.
std::atomic<int64_t> chosen_expand_from[kNumIsas][kNumFormats][2];

std::atomic<int64_t>& chosen(Isa isa, Format format, bool is_sparse) {
  return chosen_expand_from[static_cast<int>(isa)][static_cast<int>(format)][is_sparse];
}

}  // namespace

void set_expand_from(Isa isa, Format format, bool is_sparse, int64_t rows) {
  chosen(isa, format, is_sparse).store(rows, std::memory_order_relaxed);
}

int64_t expand_from(Isa isa, Format format, bool is_sparse) {
  const int64_t rows = chosen(isa, format, is_sparse).load(std::memory_order_relaxed);
  return rows == 0 ? kExpandFrom : rows;
}

uint8_t* LinearScratch::bytes(size_t count) {
  if (data_.size() < count) data_ = Buffer(count + count / 4);
  return data_.data();
}

bool has_int8_path(Format format) {
  return !quant::is_float(format);
}

float row_scale(Isa isa, const float* x, int64_t cols) {
  return table_of(isa).row_scale(x, cols);
}

void quantize_blocks(Isa isa, const float* x, int64_t count, float scale, ActBlock* out) {
  table_of(isa).quantize_blocks(x, count, scale, out);
}

void quantize_rest(Isa isa, const float* x, const ActBlock& block, float scale, ActBlock* rest) {
  table_of(isa).quantize_rest(x, block, scale, rest);
}

void linear_int8(Isa isa, const PackedMatrix& weights, const QuantizedRows& x, int64_t num_rows,
                 int64_t panel_begin, int64_t panel_end, const LinearOutput& out,
                 LinearScratch& scratch) {
  if (num_rows < 1 || panel_begin >= panel_end) return;
  // Two tokens are enough to make up for storing what was joined from two planes.
  const int64_t from =
      weights.has_planes() ? 2 : expand_from(isa, weights.format(), weights.is_sparse());
  table_for(isa, num_rows).int8({weights, num_rows, panel_begin, panel_end, out, scratch, from}, x);
}

void screen_int8(Isa isa, const PackedMatrix& weights, const QuantizedRows& x, int64_t num_rows,
                 int64_t panel_begin, int64_t panel_end, const LinearOutput& out,
                 LinearScratch& scratch, BestRows* best) {
  if (num_rows < 1 || panel_begin >= panel_end) return;
  table_for(isa, num_rows)
      .screen({weights, num_rows, panel_begin, panel_end, out, scratch}, x, best);
}

void linear_f32(Isa isa, const PackedMatrix& weights, const float* x, int64_t x_stride,
                int64_t num_rows, int64_t panel_begin, int64_t panel_end, const LinearOutput& out,
                LinearScratch& scratch) {
  if (num_rows < 1 || panel_begin >= panel_end) return;
  table_of(isa).f32({weights, num_rows, panel_begin, panel_end, out, scratch}, x, x_stride);
}

}  // namespace plait
