// Eight float lanes. Included by the kernels of each instruction set, in that set's own namespace,
// so that two translation units never share an inline function compiled with different flags.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#if defined(__AVX2__)
#include "vec8_avx2.h"
#elif defined(PLAIT_NEON)
#include "vec8_neon.h"
#else
#include "vec8_generic.h"
#endif

namespace plait::PLAIT_ISA {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// e^x to about 2 ulp; exactly 1 at 0 and exactly 0 below -87.33 (and at -inf). Large x saturates at
// e^88. x = n ln 2 + r with |r| <= ln 2 / 2, Taylor polynomial of degree 7 in r.
inline Vec exp(Vec x) {
  const Vec lowest = splat(-87.33f);
  const Vec clamped = max(min(x, splat(88.0f)), lowest);
  const Vec n = round_even(mul(clamped, splat(1.44269504f)));
  Vec r = fma(n, splat(-0.693359375f), clamped);
  r = fma(n, splat(2.12194440e-4f), r);
  Vec p = splat(1.0f / 5040);
  p = fma(p, r, splat(1.0f / 720));
  p = fma(p, r, splat(1.0f / 120));
  p = fma(p, r, splat(1.0f / 24));
  p = fma(p, r, splat(1.0f / 6));
  p = fma(p, r, splat(0.5f));
  p = fma(p, r, splat(1.0f));
  p = fma(p, r, splat(1.0f));
  return keep_where_at_least(x, lowest, mul(p, power_of_two(n)));
}

inline float exp_one(float x) {
  return first_lane(exp(splat(x)));
}

}  // namespace
}  // namespace plait::PLAIT_ISA
