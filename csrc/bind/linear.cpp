#include "plait/linear.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bind.h"

namespace nb = nanobind;

namespace plait::bind {
namespace {

using Array = nb::ndarray<nb::ro, nb::device::cpu>;
using Range = std::pair<int64_t, int64_t>;

template <class T, int kNumDims = 2>
using NewArray = nb::ndarray<nb::numpy, T, nb::ndim<kNumDims>, nb::c_contig>;

void require(bool condition, const std::string& message) {
  if (!condition) throw nb::value_error(message.c_str());
}

bool is_contiguous(const Array& array) {
  if (array.size() == 0) return true;
  int64_t step = 1;
  for (size_t i = array.ndim(); i-- > 0; step *= static_cast<int64_t>(array.shape(i)))
    if (array.shape(i) != 1 && array.stride(i) != step) return false;
  return true;
}

template <class T>
const T* data_of(const Array& array, size_t num_dims, const char* name, const char* kind) {
  require(array.dtype() == nb::dtype<T>() && array.ndim() == num_dims && is_contiguous(array),
          std::string(name) + " must be a contiguous " + kind + " array with " +
              std::to_string(num_dims) + (num_dims == 1 ? " dimension" : " dimensions"));
  return static_cast<const T*>(array.data());
}

template <class T, int kNumDims>
NewArray<T, kNumDims> new_array(const size_t (&shape)[kNumDims]) {
  size_t size = 1;
  for (size_t dim : shape) size *= dim;
  auto owned = std::make_unique<T[]>(size);
  nb::capsule owner(owned.get(), [](void* p) noexcept { delete[] static_cast<T*>(p); });
  return NewArray<T, kNumDims>(owned.release(), kNumDims, shape, owner);
}

Packing packing_by_name(const std::string& name) {
  if (name == "panels") return Packing::panels;
  if (name == "sparse") return Packing::sparse;
  require(name == "planes", "packing must be 'panels', 'sparse' or 'planes'");
  return Packing::planes;
}

PackedMatrix* pack(const std::string& format_name, int64_t rows, int64_t cols, const Array& raw,
                   Pool& pool, const std::string& packing,
                   const std::optional<nb::callable>& done) {
  const Format format = format_by_name(format_name);
  const uint8_t* bytes = data_of<uint8_t>(raw, 1, "raw", "uint8");
  const size_t expected = raw_bytes(format, rows, cols);
  require(raw.size() == expected, std::to_string(rows) + " x " + std::to_string(cols) + " " +
                                      format_name + " weights take " + std::to_string(expected) +
                                      " bytes, not " + std::to_string(raw.size()));
  PackedMatrix::Done tell;
  if (done)
    tell = [&done](size_t begin, size_t end) {
      nb::gil_scoped_acquire acquire;
      (*done)(begin, end);
    };
  nb::gil_scoped_release release;
  return new PackedMatrix(format, rows, cols, bytes, pool, packing_by_name(packing), tell);
}

NewArray<float, 1> dequantize_row(const PackedMatrix& matrix, int64_t row) {
  require(row >= 0 && row < matrix.rows(), "row outside the matrix");
  auto out = new_array<float, 1>({static_cast<size_t>(matrix.cols())});
  matrix.dequantize_row(row, out.data());
  return out;
}

// Fine blocks as a caller gives them: int32, ascending.
struct Fine {
  const int32_t* blocks = nullptr;
  int64_t count = 0;

  Fine(const std::optional<Array>& given, int64_t cols) {
    if (!given) return;
    blocks = data_of<int32_t>(*given, 1, "fine", "int32");
    count = static_cast<int64_t>(given->shape(0));
    for (int64_t i = 0; i < count; ++i)
      require(blocks[i] > (i == 0 ? -1 : blocks[i - 1]) && blocks[i] < cols / kFineBlock,
              "fine must name blocks of 32 columns, ascending");
  }
};

struct Quantized {
  QuantizedRows rows;
  std::vector<ActBlock> blocks;
  std::vector<float> scales;

  Quantized(int64_t num_rows, int64_t cols, const Fine& fine)
      : rows{nullptr, nullptr, cols, fine.blocks, fine.count},
        blocks(static_cast<size_t>(num_rows * rows.stride())),
        scales(static_cast<size_t>(num_rows)) {
    rows.blocks = blocks.data();
    rows.scales = scales.data();
  }

  void quantize(Isa isa, const float* x, int64_t row) {
    const int64_t num_blocks = rows.cols / kFineBlock;
    ActBlock* to = blocks.data() + row * rows.stride();
    const float scale = row_scale(isa, x, rows.cols);
    scales[static_cast<size_t>(row)] = scale;
    quantize_blocks(isa, x, num_blocks, scale, to);
    for (int64_t i = 0; i < rows.num_fine; ++i) {
      const int64_t fine = rows.fine_blocks[i];
      quantize_rest(isa, x + fine * kFineBlock, to[fine], scale, to + num_blocks + i);
    }
  }
};

struct Call {
  const PackedMatrix& matrix;
  const float* x;
  int64_t num_rows;
  bool is_int8;
  Isa isa;
  Range panels;
  Fine fine;
  LinearOutput out;
};

void run(const Call& call, Pool& pool) {
  const int64_t cols = call.matrix.cols();
  Quantized x(call.is_int8 ? call.num_rows : 0, cols, call.fine);
  pool.run([&](int worker) {
    static thread_local LinearScratch scratch;
    const Share tokens = share_of(call.num_rows, 1, worker, pool.size());
    for (int64_t t = tokens.begin; call.is_int8 && t < tokens.end; ++t)
      x.quantize(call.isa, call.x + t * cols, t);
    pool.barrier();
    const Share share = share_of(call.panels.second - call.panels.first, 1, worker, pool.size());
    const int64_t begin = call.panels.first + share.begin, end = call.panels.first + share.end;
    if (call.is_int8)
      linear_int8(call.isa, call.matrix, x.rows, call.num_rows, begin, end, call.out, scratch);
    else
      linear_f32(call.isa, call.matrix, call.x, cols, call.num_rows, begin, end, call.out, scratch);
  });
}

NewArray<float> linear(const PackedMatrix& matrix, const Array& x, Pool& pool,
                       const std::string& activations, const std::string& isa_choice,
                       const std::optional<Array>& bias, const std::optional<Array>& residual,
                       const std::optional<Range>& panels, const std::optional<Array>& fine) {
  const Isa isa = isa_by_name(isa_choice);
  const Range range = panels.value_or(Range{0, matrix.num_panels()});
  const float* inputs = data_of<float>(x, 2, "x", "float32");
  const auto num_rows = static_cast<int64_t>(x.shape(0));
  require(static_cast<int64_t>(x.shape(1)) == matrix.cols(), "x has " + std::to_string(x.shape(1)) +
                                                                 " columns, the matrix has " +
                                                                 std::to_string(matrix.cols()));
  require(activations == "int8" || activations == "f32", "activations must be 'int8' or 'f32'");
  const bool is_int8 = activations == "int8";
  require(!is_int8 || has_int8_path(matrix.format()),
          std::string(format_name(matrix.format())) + " weights take activations='f32' only");
  require(is_int8 || (!matrix.is_sparse() && !matrix.has_planes()),
          "sparse panels and planes take activations='int8' only");
  require(0 <= range.first && range.first <= range.second && range.second <= matrix.num_panels(),
          "panels must lie in 0.." + std::to_string(matrix.num_panels()));
  const float* offsets = nullptr;
  if (bias) {
    offsets = data_of<float>(*bias, 1, "bias", "float32");
    require(static_cast<int64_t>(bias->shape(0)) == matrix.rows(), "bias needs one value per row");
  }
  auto out = new_array<float, 2>({x.shape(0), static_cast<size_t>(matrix.rows())});
  if (residual) {
    const float* initial = data_of<float>(*residual, 2, "residual", "float32");
    require(residual->size() == out.size() && residual->shape(0) == x.shape(0),
            "residual needs the shape of the result");
    std::copy_n(initial, residual->size(), out.data());
  }
  {
    nb::gil_scoped_release release;
    run({matrix,
         inputs,
         num_rows,
         is_int8,
         isa,
         range,
         Fine(fine, matrix.cols()),
         {out.data(), matrix.rows(), offsets, residual.has_value()}},
        pool);
  }
  return out;
}

std::tuple<NewArray<int8_t>, NewArray<uint16_t>, NewArray<float, 1>> quantize_rows(
    const Array& x, const std::string& isa_choice, const std::optional<Array>& fine) {
  const Isa isa = isa_by_name(isa_choice);
  const float* inputs = data_of<float>(x, 2, "x", "float32");
  const size_t rows = x.shape(0), cols = x.shape(1);
  require(cols % kFineBlock == 0, "x needs a multiple of 32 columns");
  Quantized made(static_cast<int64_t>(rows), static_cast<int64_t>(cols),
                 Fine(fine, static_cast<int64_t>(cols)));
  for (size_t t = 0; t < rows; ++t) made.quantize(isa, inputs + t * cols, static_cast<int64_t>(t));
  const auto stride = static_cast<size_t>(made.rows.stride());
  auto values = new_array<int8_t, 2>({rows, stride * kFineBlock});
  auto multipliers = new_array<uint16_t, 2>({rows, stride * 2});
  auto scales = new_array<float, 1>({rows});
  for (size_t i = 0; i < made.blocks.size(); ++i) {
    const ActBlock& block = made.blocks[i];
    std::copy_n(block.values, kFineBlock, values.data() + i * kFineBlock);
    for (size_t half = 0; half < 2; ++half)
      multipliers.data()[2 * i + half] = block.multipliers[half][0];
  }
  std::copy(made.scales.begin(), made.scales.end(), scales.data());
  return {values, multipliers, scales};
}

}  // namespace

void init_linear(nb::module_& m) {
  nb::class_<PackedMatrix>(m, "PackedMatrix")
      .def(nb::new_(&pack), nb::arg("format"), nb::arg("rows"), nb::arg("cols"), nb::arg("raw"),
           nb::arg("pool"), nb::kw_only(), nb::arg("packing") = "panels",
           nb::arg("done").none() = nb::none())
      .def("dequantize_row", &dequantize_row, nb::arg("row"))
      .def_prop_ro("format", [](const PackedMatrix& m) { return format_name(m.format()); })
      .def_prop_ro("rows", &PackedMatrix::rows)
      .def_prop_ro("cols", &PackedMatrix::cols)
      .def_prop_ro("is_sparse", &PackedMatrix::is_sparse)
      .def_prop_ro("bytes", &PackedMatrix::bytes);
  m.def("linear", &linear, nb::arg("packed"), nb::arg("x"), nb::arg("pool"), nb::kw_only(),
        nb::arg("activations") = "int8", nb::arg("isa") = "auto", nb::arg("bias") = nb::none(),
        nb::arg("residual") = nb::none(), nb::arg("panels") = nb::none(),
        nb::arg("fine") = nb::none());
  m.def(
      "set_expand_from",
      [](const std::string& isa, const std::string& format, bool is_sparse, int64_t rows) {
        require(rows >= 1, "rows must be at least 1");
        set_expand_from(isa_by_name(isa), format_by_name(format), is_sparse, rows);
      },
      nb::arg("isa"), nb::arg("format"), nb::arg("is_sparse"), nb::arg("rows"));
  m.def(
      "expand_from",
      [](const std::string& isa, const std::string& format, bool is_sparse) {
        return expand_from(isa_by_name(isa), format_by_name(format), is_sparse);
      },
      nb::arg("isa"), nb::arg("format"), nb::arg("is_sparse"));
  m.def("quantize_rows", &quantize_rows, nb::arg("x"), nb::arg("isa") = "auto",
        nb::arg("fine") = nb::none());
}

}  // namespace plait::bind
