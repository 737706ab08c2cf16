// Matrices packed for the processor, quantised activations, and y = x W^T (+ bias, + y).
//
// Batch invariance: for one output element the blocks along K are always accumulated in the same
// order with the same operations (csrc/arch/linear_tile.h), whatever the tile, the number of rows
// or the number of threads. Every kernel table gives the same bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "plait/buffer.h"
#include "plait/cpu.h"
#include "plait/format.h"
#include "plait/threads.h"

namespace plait {

constexpr int kPanelRows = 8;             // rows of W that lie side by side, one per 32-bit lane
constexpr int kActBlock = 16;             // activations quantised together
constexpr int kFineBlock = 32;            // activations kept finer together
constexpr int kLargestMultiplier = 4095;  // of the scales: sums of 32 products fit into 32 bits
constexpr float kRestScale = 0x1p-7f;

// Bytes of a matrix in the source layout. Throws std::invalid_argument for a shape that is empty,
// far too large, or whose columns are no multiple of the format's block size.
size_t raw_bytes(Format format, int64_t rows, int64_t cols);

// Can 2:4 sparse matrices of this format be stored without their zeros?
bool has_sparse_panels(Format format);

// How a matrix may lie in memory: as panels; without its zeros if it is 2:4 sparse and its format
// allows that; or, Q8_0 and Q6_K only, with the low 4 bits of all weights apart, so that the rest
// of it can be read alone (csrc/quant/planes.h).
enum class Packing { panels, sparse, planes };

// W as [rows / 8] panels of one format. Lossless: dequantising gives the same floats as the source.
class PackedMatrix {
 public:
  // raw: raw_bytes(format, rows, cols) bytes in the source layout; throws as that does. Packs on
  // all workers of the pool.
  // The int8 path gives the same bits with every packing; sparse panels and planes have no float
  // path. Packing::sparse gives plain panels unless of every four neighbouring columns at most two
  // are not zero.
  // done(begin, end), when given, is told on the calling thread which bytes of raw are not needed
  // any more, some megabytes at a time.
  using Done = std::function<void(size_t begin, size_t end)>;
  PackedMatrix(Format format, int64_t rows, int64_t cols, const uint8_t* raw, Pool& pool,
               Packing packing = Packing::panels, const Done& done = {});

  Format format() const { return format_; }
  bool has_planes() const { return low_panel_bytes_ > 0; }
  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  bool is_sparse() const { return is_sparse_; }
  int64_t num_panels() const { return (rows_ + kPanelRows - 1) / kPanelRows; }
  size_t panel_bytes() const { return panel_bytes_; }
  size_t low_panel_bytes() const { return low_panel_bytes_; }
  size_t bytes() const { return data_.size(); }
  // With planes: of the high one.
  const uint8_t* panel(int64_t index) const { return data_.data() + index * panel_bytes_; }
  const uint8_t* low_panel(int64_t index) const {
    return data_.data() + num_panels() * panel_bytes_ + index * low_panel_bytes_;
  }

  // out: cols floats. The embedding look-up.
  void dequantize_row(int64_t row, float* out) const;

 private:
  Format format_;
  int64_t rows_;
  int64_t cols_;
  bool is_sparse_;
  size_t panel_bytes_;
  size_t low_panel_bytes_;
  Buffer data_;
};

// 32 quantised activations. The scale of 16 of them is an integer, `multipliers`, times the scale
// of the row.
struct alignas(16) ActBlock {
  int8_t values[32];
  uint16_t multipliers[2][2];  // [half]: 1 to 4095, twice
  int32_t sum;                 // of multiplier * value over the 32
  int32_t first_sum;           // over the first 16
};

// The squares of its two scales, to which the noise of rounding is proportional.
inline float block_energy(const ActBlock& block, float row_scale) {
  const float first = static_cast<float>(block.multipliers[0][0]) * row_scale;
  const float second = static_cast<float>(block.multipliers[1][0]) * row_scale;
  return first * first + second * second;
}

// Rows of activations, row after row. Of some blocks of 32 ("fine" ones, the same for every row)
// what rounding left over is quantised once more and follows the row as further blocks, which meet
// the weights of the block they belong to; they count kRestScale of the row's scale.
struct QuantizedRows {
  const ActBlock* blocks;      // [rows][stride()]
  const float* scales;         // [rows]
  int64_t cols;                // of W
  const int32_t* fine_blocks;  // [num_fine], ascending, each below cols / 32
  int64_t num_fine;

  int64_t stride() const { return cols / kFineBlock + num_fine; }
};

struct LinearOutput {
  float* data;  // element (t, n) at data[t * stride + n], n counted from the matrix's row 0
  int64_t stride;
  const float* bias;  // [rows of W] or null
  bool accumulate;    // add to what is there (the residual) instead of overwriting
};

// What a thread needs besides: grown on first use, then kept.
class LinearScratch {
 public:
  uint8_t* bytes(size_t count);

 private:
  Buffer data_;
};

// Is the int8 path defined for this format? (float formats take float activations only)
bool has_int8_path(Format format);

// From how many rows of activations on the int8 path stores weights as bytes before it multiplies,
// instead of decoding them for every tile: for one table, format and kind of panels, in the whole
// process. A choice by measurement, which changes no bit. rows: at least 1.
void set_expand_from(Isa isa, Format format, bool is_sparse, int64_t rows);
int64_t expand_from(Isa isa, Format format, bool is_sparse);

// Quantising one row of activations: its scale, then its blocks of 32, in any pieces. See
// csrc/ops/linear_table.h for the last bit. Non-finite inputs give finite garbage, not a crash.
float row_scale(Isa isa, const float* x, int64_t cols);
void quantize_blocks(Isa isa, const float* x, int64_t count, float scale, ActBlock* out);

// What the block of x leaves over, quantised again.
void quantize_rest(Isa isa, const float* x, const ActBlock& block, float scale, ActBlock* rest);

// Output columns [8 * panel_begin, 8 * panel_end) for all `num_rows` rows of x; one thread's share.
void linear_int8(Isa isa, const PackedMatrix& weights, const QuantizedRows& x, int64_t num_rows,
                 int64_t panel_begin, int64_t panel_end, const LinearOutput& out,
                 LinearScratch& scratch);

// The same with float activations [num_rows][x_stride] and dequantised weights, which must be
// panels that are not sparse; K is summed in order, one fma per element.
void linear_f32(Isa isa, const PackedMatrix& weights, const float* x, int64_t x_stride,
                int64_t num_rows, int64_t panel_begin, int64_t panel_end, const LinearOutput& out,
                LinearScratch& scratch);

}  // namespace plait
