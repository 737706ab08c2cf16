#include "plait/measure.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <vector>

#include "bind.h"

namespace nb = nanobind;

namespace plait::bind {
namespace {

using Rows = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

void require(bool condition, const char* message) {
  if (!condition) throw nb::value_error(message);
}

std::vector<double> time_read(Pool& pool, size_t bytes, int passes, const std::string& isa) {
  require(passes > 0 && bytes > 0, "nothing to read");
  const Isa table = isa_by_name(isa);
  nb::gil_scoped_release release;
  return read_seconds(table, pool, bytes, passes);
}

double time_multiply(Pool& pool, int passes, const std::string& isa) {
  require(passes > 0, "nothing to multiply");
  const Isa table = isa_by_name(isa);
  nb::gil_scoped_release release;
  return multiply_rate(table, pool, passes);
}

std::vector<double> time_linear(const std::vector<const PackedMatrix*>& matrices, const Rows& x,
                                Pool& pool, int passes, const std::string& isa) {
  require(!matrices.empty() && passes > 0 && x.shape(0) > 0, "nothing to multiply");
  const auto cols = static_cast<int64_t>(x.shape(1));
  for (const PackedMatrix* matrix : matrices) {
    require(
        matrix != nullptr && matrix->cols() == cols && matrix->rows() == matrices.front()->rows(),
        "the matrices must have one shape, and as many columns as x");
    require(has_int8_path(matrix->format()), "float weights have no int8 path");
  }
  const Isa table = isa_by_name(isa);
  nb::gil_scoped_release release;
  const auto rows = static_cast<int64_t>(x.shape(0));
  const int64_t num_blocks = cols / kFineBlock;
  std::vector<ActBlock> blocks(static_cast<size_t>(rows * num_blocks));
  std::vector<float> scales(static_cast<size_t>(rows));
  for (int64_t t = 0; t < rows; ++t) {
    const float scale = row_scale(table, x.data() + t * cols, cols);
    scales[static_cast<size_t>(t)] = scale;
    quantize_blocks(table, x.data() + t * cols, num_blocks, scale, blocks.data() + t * num_blocks);
  }
  return linear_seconds(table, pool, matrices, {blocks.data(), scales.data(), cols, nullptr, 0},
                        rows, passes);
}

}  // namespace

void init_measure(nb::module_& m) {
  m.def("time_read", &time_read, nb::arg("pool"), nb::arg("bytes"), nb::arg("passes"),
        nb::arg("isa") = "auto");
  m.def("time_multiply", &time_multiply, nb::arg("pool"), nb::arg("passes"),
        nb::arg("isa") = "auto");
  m.def("time_linear", &time_linear, nb::arg("matrices"), nb::arg("x"), nb::arg("pool"),
        nb::arg("passes"), nb::arg("isa") = "auto");
}

}  // namespace plait::bind
