// PackedMatrix: from the source layout to panels, and back for one row.
#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "plait/linear.h"
#include "quant/formats.h"
#include "quant/planes.h"
#include "quant/sparse_panel.h"

namespace plait {
namespace {

constexpr size_t kSlabBytes = size_t{8} << 20;

static_assert(std::endian::native == std::endian::little, "packed words are little endian");

struct Source {
  const uint8_t* raw;
  int64_t rows;
  int64_t cols;
  size_t row_bytes;
};

size_t bytes_per_panel(Format format, int64_t cols, bool is_sparse) {
  const auto columns = static_cast<size_t>(cols);
  if (quant::is_float(format)) return columns * kPanelRows * block_bytes(format);
  return quant::visit_panel(format, is_sparse, [&]<class F, class P>() -> size_t {
    return columns / P::kUnitColumns * P::kUnitBytes;
  });
}

// Floats: panel[column][row], the elements as they are.
template <class Element>
void pack_floats(const Source& source, int64_t panel, uint8_t* out) {
  for (int row = 0; row < kPanelRows; ++row) {
    const int64_t index = panel * kPanelRows + row;
    if (index >= source.rows) break;
    const uint8_t* from = source.raw + static_cast<size_t>(index) * source.row_bytes;
    for (int64_t column = 0; column < source.cols; ++column)
      std::memcpy(out + (column * kPanelRows + row) * sizeof(Element),
                  from + column * sizeof(Element), sizeof(Element));
  }
}

// Rows beyond the last one stay zero.
template <class F, class P>
void pack_blocks(const Source& source, int64_t panel, uint8_t* out) {
  const uint8_t* from = source.raw + static_cast<size_t>(panel * kPanelRows) * source.row_bytes;
  const int64_t rows = std::min<int64_t>(kPanelRows, source.rows - panel * kPanelRows);
  quant::RowBlock blocks[kPanelRows]{};
  for (int64_t unit = 0; unit < source.cols / P::kUnitColumns; ++unit) {
    for (int64_t row = 0; row < rows; ++row)
      F::read(from + static_cast<size_t>(row) * source.row_bytes, blocks[row]);
    P::store(blocks, out + unit * P::kUnitBytes);
    from += block_bytes(F::kFormat);
  }
}

// As pack_blocks, into two planes.
template <class F>
void pack_planes(const Source& source, int64_t panel, uint8_t* high, uint8_t* low) {
  using P = quant::Planes<F>;
  const uint8_t* from = source.raw + static_cast<size_t>(panel * kPanelRows) * source.row_bytes;
  const int64_t rows = std::min<int64_t>(kPanelRows, source.rows - panel * kPanelRows);
  quant::RowBlock blocks[kPanelRows]{};
  for (int64_t unit = 0; unit < source.cols / P::kUnitColumns; ++unit) {
    for (int64_t row = 0; row < rows; ++row)
      F::read(from + static_cast<size_t>(row) * source.row_bytes, blocks[row]);
    P::store(blocks, high + unit * P::kHighBytes, low + unit * P::kLowBytes);
    from += block_bytes(F::kFormat);
  }
}

void pack_panel(Format format, bool is_sparse, const Source& source, int64_t panel, uint8_t* out) {
  if (format == Format::f32) return pack_floats<uint32_t>(source, panel, out);
  if (quant::is_float(format)) return pack_floats<uint16_t>(source, panel, out);
  quant::visit_panel(format, is_sparse,
                     [&]<class F, class P>() { pack_blocks<F, P>(source, panel, out); });
}

float read_float(Format format, const uint8_t* element) {
  if (format == Format::f32) return std::bit_cast<float>(quant::read_u32(element));
  const uint16_t bits = quant::read_u16(element);
  return format == Format::f16 ? quant::half_to_float(bits) : quant::bfloat_to_float(bits);
}

// load(unit, block): the row's block of that unit.
template <class P, class Load>
void dequantize_blocks(int64_t cols, float* out, const Load& load) {
  quant::RowBlock block{};
  for (int64_t unit = 0; unit < cols / P::kUnitColumns; ++unit) {
    load(unit, block);
    for (int group = 0; group < P::kUnitColumns / P::kGroup; ++group) {
      const float scale = P::scale(block, group);
      const float minimum = P::kHasMin ? P::minimum(block, group) : 0.0f;
      const uint8_t* codes = block.codes + group * P::kGroup;
      for (int i = 0; i < P::kGroup; ++i) {
        const float product = scale * static_cast<float>(P::weight(codes[i]));
        *out++ = P::kHasMin ? product + minimum : product;
      }
    }
  }
}

}  // namespace

size_t raw_bytes(Format format, int64_t rows, int64_t cols) {
  const int64_t block = block_size(format);
  if (rows < 1 || cols < 1)
    throw std::invalid_argument("a matrix needs at least one row and one column, got " +
                                std::to_string(rows) + " x " + std::to_string(cols));
  if (cols % block != 0)
    throw std::invalid_argument("rows of " + std::string(format_name(format)) + " are blocks of " +
                                std::to_string(block) + " weights, " + std::to_string(cols) +
                                " is no multiple of that");
  // Far above any model, far below what would overflow a byte count.
  constexpr int64_t kMaxWeights = int64_t{1} << 48;
  if (cols > kMaxWeights / rows) throw std::invalid_argument("matrix too large");
  return static_cast<size_t>(rows) * static_cast<size_t>(cols / block) * block_bytes(format);
}

PackedMatrix::PackedMatrix(Format format, int64_t rows, int64_t cols, const uint8_t* raw,
                           Pool& pool, Packing packing, const Done& done)
    : format_(format), rows_(rows), cols_(cols), low_panel_bytes_(0) {
  const size_t row_bytes = raw_bytes(format, rows, cols) / static_cast<size_t>(rows);
  is_sparse_ = packing == Packing::sparse && quant::is_two_of_four(format, rows, cols, raw, pool);
  const size_t both = bytes_per_panel(format, cols, is_sparse_);
  panel_bytes_ = both;
  if (packing == Packing::planes) {
    if (!quant::has_planes(format))
      throw std::invalid_argument("only q8_0 and q6_k can lie in planes");
    panel_bytes_ = quant::visit_planes(format, [&]<class F>() {
      using P = quant::Planes<F>;
      return static_cast<size_t>(cols / P::kUnitColumns) * P::kHighBytes;
    });
    low_panel_bytes_ = both - panel_bytes_;
  }
  data_ = Buffer(static_cast<size_t>(num_panels()) * both);
  uint8_t* lows = data_.data() + static_cast<size_t>(num_panels()) * panel_bytes_;
  const Source source{raw, rows, cols, row_bytes};
  const auto slab = std::max<int64_t>(1, static_cast<int64_t>(kSlabBytes / both));
  for (int64_t first = 0; first < num_panels(); first += slab) {
    const int64_t count = std::min(slab, num_panels() - first);
    pool.run([&](int worker) {
      const Share share = share_of(count, 1, worker, pool.size());
      for (int64_t i = first + share.begin; i < first + share.end; ++i) {
        uint8_t* high = data_.data() + static_cast<size_t>(i) * panel_bytes_;
        uint8_t* low = lows + static_cast<size_t>(i) * low_panel_bytes_;
        if (has_planes())
          quant::visit_planes(format, [&]<class F>() { pack_planes<F>(source, i, high, low); });
        else
          pack_panel(format, is_sparse_, source, i, high);
      }
    });
    const int64_t end = std::min(rows, (first + count) * kPanelRows);
    if (done) done(static_cast<size_t>(first * kPanelRows) * row_bytes, end * row_bytes);
  }
}

void PackedMatrix::dequantize_row(int64_t row, float* out) const {
  const uint8_t* from = panel(row / kPanelRows);
  const int lane = static_cast<int>(row % kPanelRows);
  if (quant::is_float(format_)) {
    const size_t size = block_bytes(format_);
    for (int64_t i = 0; i < cols_; ++i)
      out[i] = read_float(format_, from + static_cast<size_t>(i * kPanelRows + lane) * size);
    return;
  }
  if (has_planes()) {
    const uint8_t* low = low_panel(row / kPanelRows);
    return quant::visit_planes(format_, [&]<class F>() {
      using P = quant::Planes<F>;
      dequantize_blocks<P>(cols_, out, [&](int64_t unit, quant::RowBlock& block) {
        P::load(from + unit * P::kHighBytes, low + unit * P::kLowBytes, lane, block);
      });
    });
  }
  quant::visit_panel(format_, is_sparse_, [&]<class F, class P>() {
    dequantize_blocks<P>(cols_, out, [&](int64_t unit, quant::RowBlock& block) {
      P::load(from + unit * P::kUnitBytes, lane, block);
    });
  });
}

}  // namespace plait
