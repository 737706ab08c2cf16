// Python's array('i') as an argument: the lists of small numbers that a step hands over. Reading
// its buffer costs a tenth of what taking an array from NumPy does.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

namespace plait::bind {

class IntArray {
 public:
  IntArray() = default;
  IntArray(IntArray&& other) noexcept { std::swap(view_, other.view_); }
  IntArray& operator=(IntArray&& other) noexcept {
    std::swap(view_, other.view_);
    return *this;
  }
  ~IntArray() {
    if (view_.obj != nullptr) PyBuffer_Release(&view_);
  }

  // False when the object is no flat run of int32.
  bool load(PyObject* object) {
    static_assert(sizeof(int) == sizeof(int32_t));
    if (PyObject_GetBuffer(object, &view_, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS) != 0) {
      PyErr_Clear();
      return false;
    }
    return view_.ndim == 1 && view_.format != nullptr && std::strcmp(view_.format, "i") == 0;
  }

  size_t size() const { return static_cast<size_t>(view_.len) / sizeof(int32_t); }
  const int32_t* data() const { return static_cast<const int32_t*>(view_.buf); }

 private:
  Py_buffer view_{};
};

}  // namespace plait::bind

namespace nanobind::detail {

template <>
struct type_caster<plait::bind::IntArray> {
  NB_TYPE_CASTER(plait::bind::IntArray, const_name("array.array[int]"))

  bool from_python(handle source, uint8_t, cleanup_list*) noexcept {
    return value.load(source.ptr());
  }
};

}  // namespace nanobind::detail
