#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>

#include <cstdint>
#include <cstring>
#include <utility>

#include "bind.h"

namespace nb = nanobind;

namespace plait::bind {
namespace {

using Texts = nb::typed<nb::list, nb::str>;
using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// Vocabularies and merges are hundreds of thousands of strings, read at every start: a loop in the
// interpreter would take longer than packing a small model.
std::pair<Texts, size_t> read_strings(const Bytes& data, size_t position, size_t count) {
  const auto* bytes = reinterpret_cast<const char*>(data.data());
  const size_t end = data.size();
  Texts found;
  for (size_t i = 0; i < count && position <= end; ++i) {
    uint64_t length = 0;
    if (end - position < sizeof length) break;
    std::memcpy(&length, bytes + position, sizeof length);
    position += sizeof length;
    if (length > end - position) break;
    PyObject* text =
        PyUnicode_DecodeUTF8(bytes + position, static_cast<Py_ssize_t>(length), "replace");
    if (text == nullptr) throw nb::python_error();
    found.append(nb::steal(text));
    position += length;
  }
  return {found, position};
}

}  // namespace

void init_header(nb::module_& m) {
  m.def("read_strings", &read_strings, nb::arg("data"), nb::arg("position"), nb::arg("count"));
}

}  // namespace plait::bind
