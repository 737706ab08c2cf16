// Arrays of numbers as arguments: the little that a step hands over. Reading a buffer costs a
// fraction of what nanobind's own arrays do, which are exchanged as DLPack capsules.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

namespace plait::bind {

// C-contiguous, of int32, uint32 or float32. kAccess: PyBUF_SIMPLE, or PyBUF_WRITABLE for results.
template <typename Number, int kDimensions, int kAccess>
class NumberArray {
 public:
  NumberArray() = default;
  NumberArray(NumberArray&& other) noexcept { std::swap(view_, other.view_); }
  NumberArray& operator=(NumberArray&& other) noexcept {
    std::swap(view_, other.view_);
    return *this;
  }
  ~NumberArray() {
    if (view_.obj != nullptr) PyBuffer_Release(&view_);
  }

  // False when the object is no such array.
  bool load(PyObject* object) {
    static_assert(sizeof(int) == sizeof(int32_t) && sizeof(Number) == sizeof(int32_t));
    constexpr const char* kFormat = std::is_same_v<Number, float>      ? "f"
                                    : std::is_same_v<Number, uint32_t> ? "I"
                                                                       : "i";
    if (PyObject_GetBuffer(object, &view_, kAccess | PyBUF_FORMAT | PyBUF_C_CONTIGUOUS) != 0) {
      PyErr_Clear();
      return false;
    }
    return view_.ndim == kDimensions && view_.format != nullptr &&
           std::strcmp(view_.format, kFormat) == 0;
  }

  size_t size() const { return static_cast<size_t>(view_.len) / sizeof(Number); }
  size_t shape(int dimension) const { return static_cast<size_t>(view_.shape[dimension]); }
  auto* data() const {
    using Value = std::conditional_t<kAccess == PyBUF_WRITABLE, Number, const Number>;
    return static_cast<Value*>(view_.buf);
  }

 private:
  Py_buffer view_{};
};

using IntArray = NumberArray<int32_t, 1, PyBUF_SIMPLE>;
using IntResult = NumberArray<int32_t, 1, PyBUF_WRITABLE>;
using FloatRows = NumberArray<float, 2, PyBUF_SIMPLE>;
using WordRows = NumberArray<uint32_t, 2, PyBUF_SIMPLE>;

}  // namespace plait::bind

namespace nanobind::detail {

template <typename Number, int kDimensions, int kAccess>
struct type_caster<plait::bind::NumberArray<Number, kDimensions, kAccess>> {
  using Array = plait::bind::NumberArray<Number, kDimensions, kAccess>;
  static constexpr auto kInts = const_name<std::is_same_v<Number, uint32_t>>(
      "numpy.typing.NDArray[numpy.uint32]", "array.array[int] | numpy.typing.NDArray[numpy.int32]");
  static constexpr auto kName = const_name<std::is_same_v<Number, float>>(
      const_name("numpy.typing.NDArray[numpy.float32]"), kInts);
  NB_TYPE_CASTER(Array, kName)

  bool from_python(handle source, uint8_t, cleanup_list*) noexcept {
    return value.load(source.ptr());
  }
};

}  // namespace nanobind::detail
