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

// e^x to 3 ulp for |x| < 20 and 6 at the ends; exactly 1 at 0 and exactly 0 below -87.33 (and at
// -inf, and for NaN), where it would no longer be a normal number. Large x saturates at e^88.
// x = n ln 2 + r with |r| <= ln 2 / 2; the polynomial is the one of degree 5 with the least
// relative error, 1.1e-7, among those that begin with 1 + r. Adding kRound leaves n + 127, the bits
// of 2^n's exponent, in the last bits of a float.
inline Vec exp(Vec x) {
  constexpr float kRound = 0x1.8p23f + 127.0f;
  const Vec lowest = splat(-87.33f);
  const Vec clamped = min(max(x, lowest), splat(88.0f));
  const Vec biased = fma(clamped, splat(1.44269504f), splat(kRound));
  const Vec r = fma(sub(biased, splat(kRound)), splat(-0.693147181f), clamped);
  Vec p = splat(8.312501013e-3f);
  p = fma(p, r, splat(4.189033061e-2f));
  p = fma(p, r, splat(1.666711569e-1f));
  p = fma(p, r, splat(4.999923110e-1f));
  p = fma(p, r, splat(1.0f));
  p = fma(p, r, splat(1.0f));
  return keep_where_at_least(x, lowest, mul(p, exponent_from(biased)));
}

inline float exp_one(float x) {
  return first_lane(exp(splat(x)));
}

}  // namespace
}  // namespace plait::PLAIT_ISA
