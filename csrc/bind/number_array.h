// Arrays of numbers as arguments: the little that a step hands over. Reading a buffer costs a
// fraction of what nanobind's own arrays do, which are exchanged as DLPack capsules.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

namespace plait::bind {

// An object's memory, C-contiguous, of so many dimensions and whatever numbers. kAccess:
// PyBUF_SIMPLE, or PyBUF_WRITABLE.
template <int kDimensions, int kAccess>
class Memory {
 public:
  Memory() = default;
  Memory(Memory&& other) noexcept { std::swap(view_, other.view_); }
  Memory& operator=(Memory&& other) noexcept {
    std::swap(view_, other.view_);
    return *this;
  }
  ~Memory() {
    if (view_.obj != nullptr) PyBuffer_Release(&view_);
  }

  // False when the object is no such array.
  bool load(PyObject* object) {
    if (PyObject_GetBuffer(object, &view_, kAccess | PyBUF_FORMAT | PyBUF_C_CONTIGUOUS) != 0) {
      PyErr_Clear();
      return false;
    }
    return view_.ndim == kDimensions && view_.format != nullptr;
  }

  size_t itemsize() const { return static_cast<size_t>(view_.itemsize); }
  size_t shape(int dimension) const { return static_cast<size_t>(view_.shape[dimension]); }
  void* data() const { return view_.buf; }

 protected:
  Py_buffer view_{};
};

// Of int32, uint32 or float32.
template <typename Number, int kDimensions, int kAccess>
class NumberArray : public Memory<kDimensions, kAccess> {
 public:
  bool load(PyObject* object) {
    static_assert(sizeof(int) == sizeof(int32_t) && sizeof(Number) == sizeof(int32_t));
    constexpr const char* kFormat = std::is_same_v<Number, float>      ? "f"
                                    : std::is_same_v<Number, uint32_t> ? "I"
                                                                       : "i";
    return Memory<kDimensions, kAccess>::load(object) &&
           std::strcmp(this->view_.format, kFormat) == 0;
  }

  size_t size() const { return static_cast<size_t>(this->view_.len) / sizeof(Number); }
  auto* data() const {
    using Value = std::conditional_t<kAccess == PyBUF_WRITABLE, Number, const Number>;
    return static_cast<Value*>(this->view_.buf);
  }
};

using IntArray = NumberArray<int32_t, 1, PyBUF_SIMPLE>;
using IntResult = NumberArray<int32_t, 1, PyBUF_WRITABLE>;
using FloatRows = NumberArray<float, 2, PyBUF_SIMPLE>;
using FloatResult = NumberArray<float, 2, PyBUF_WRITABLE>;
using WordRows = NumberArray<uint32_t, 2, PyBUF_SIMPLE>;
using KvMemory = Memory<5, PyBUF_WRITABLE>;

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

template <int kDimensions, int kAccess>
struct type_caster<plait::bind::Memory<kDimensions, kAccess>> {
  using Array = plait::bind::Memory<kDimensions, kAccess>;
  NB_TYPE_CASTER(Array, const_name("numpy.typing.NDArray[typing.Any]"))

  bool from_python(handle source, uint8_t, cleanup_list*) noexcept {
    return value.load(source.ptr());
  }
};

}  // namespace nanobind::detail
