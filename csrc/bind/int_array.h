// Runs of int32 as arguments: the small numbers that a step hands over. Reading a buffer costs a
// fraction of what nanobind's own arrays do, which are exchanged as DLPack capsules.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

namespace plait::bind {

// kAccess: PyBUF_SIMPLE, or PyBUF_WRITABLE for results.
template <int kAccess>
class Ints {
 public:
  Ints() = default;
  Ints(Ints&& other) noexcept { std::swap(view_, other.view_); }
  Ints& operator=(Ints&& other) noexcept {
    std::swap(view_, other.view_);
    return *this;
  }
  ~Ints() {
    if (view_.obj != nullptr) PyBuffer_Release(&view_);
  }

  // False when the object is no flat run of int32.
  bool load(PyObject* object) {
    static_assert(sizeof(int) == sizeof(int32_t));
    if (PyObject_GetBuffer(object, &view_, kAccess | PyBUF_FORMAT | PyBUF_C_CONTIGUOUS) != 0) {
      PyErr_Clear();
      return false;
    }
    return view_.ndim == 1 && view_.format != nullptr && std::strcmp(view_.format, "i") == 0;
  }

  size_t size() const { return static_cast<size_t>(view_.len) / sizeof(int32_t); }
  auto* data() const {
    using Value = std::conditional_t<kAccess == PyBUF_WRITABLE, int32_t, const int32_t>;
    return static_cast<Value*>(view_.buf);
  }

 private:
  Py_buffer view_{};
};

using IntArray = Ints<PyBUF_SIMPLE>;
using IntResult = Ints<PyBUF_WRITABLE>;

}  // namespace plait::bind

namespace nanobind::detail {

template <int kAccess>
struct type_caster<plait::bind::Ints<kAccess>> {
  NB_TYPE_CASTER(plait::bind::Ints<kAccess>,
                 const_name("array.array[int] | numpy.typing.NDArray[numpy.int32]"))

  bool from_python(handle source, uint8_t, cleanup_list*) noexcept {
    return value.load(source.ptr());
  }
};

}  // namespace nanobind::detail
