// What the lanes of every instruction set share. In the namespace of each set, so that no inline
// function is shared between differently compiled units.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <utility>

namespace plait::PLAIT_ISA {
namespace {

// The sanitizers multiply every inlined copy: there, functions stay functions.
#if defined(__SANITIZE_ADDRESS__)
#define PLAIT_INLINE inline
#define PLAIT_LAMBDA
#else
#define PLAIT_INLINE inline __attribute__((always_inline))
#define PLAIT_LAMBDA __attribute__((always_inline))
#endif

// body(std::integral_constant<int, 0>), ..., <kCount - 1>: for loops whose index must be a
// constant.
template <int kCount, class Body>
PLAIT_INLINE void unroll(const Body& body) {
  [&]<int... kIndex>(std::integer_sequence<int, kIndex...>) PLAIT_LAMBDA {
    (body(std::integral_constant<int, kIndex>{}), ...);
  }(std::make_integer_sequence<int, kCount>{});
}

// Where a vector's panels are: `at`, and every further panel `next` bytes on. With planes this is
// the high one, and the low one is elsewhere.
struct Cursor {
  const uint8_t* at;
  int64_t next;
  const uint8_t* low_at = nullptr;
  int64_t low_next = 0;

  PLAIT_INLINE Cursor plus(int64_t bytes) const { return {at + bytes, next, low_at, low_next}; }
  PLAIT_INLINE Cursor low() const { return {low_at, low_next}; }
};

// The cursor some units on.
template <class S>
PLAIT_INLINE Cursor advance(Cursor unit, int64_t count) {
  unit.at += count * S::kUnitBytes;
  if constexpr (requires { S::kLowUnitBytes; }) unit.low_at += count * S::kLowUnitBytes;
  return unit;
}

}  // namespace
}  // namespace plait::PLAIT_ISA
