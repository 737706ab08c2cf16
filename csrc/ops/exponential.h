// The exponentials that weigh tokens: our own, so that every machine and the NumPy twin agree.
#pragma once

#include <bit>
#include <cstdint>

namespace plait {

// exp(x) for x <= 0, 0 below -87 (where results would be subnormal); within 2^-21 of the true
// value. x = k ln 2 + r with |r| <= ln 2 / 2; exp(r) by its Taylor polynomial of degree 7, times
// 2^k through the exponent bits.
inline float small_exp(float x) {
  constexpr float kRound = 0x1.8p23f;  // adding it leaves the nearest whole number in the low bits
  const float bounded = x > -87.0f ? x : -87.0f;
  const float shifted = bounded * 0x1.715476p0f + kRound;
  const float k = shifted - kRound;
  const float r = (bounded - k * 0x1.63p-1f) - k * -0x1.bd0106p-13f;
  float y = 1.0f / 5040.0f;
  y = y * r + 1.0f / 720.0f;
  y = y * r + 1.0f / 120.0f;
  y = y * r + 1.0f / 24.0f;
  y = y * r + 1.0f / 6.0f;
  y = y * r + 0.5f;
  y = y * r + 1.0f;
  y = y * r + 1.0f;
  const uint32_t power = (std::bit_cast<uint32_t>(shifted) + 127) << 23;
  const float result = y * std::bit_cast<float>(power);
  return x >= -87.0f ? result : 0.0f;
}

// The same in float64, within 2 ulp: degree 13, 0 below -708.
inline double exact_exp(double x) {
  constexpr double kInverse[] = {1.0 / 6227020800.0,
                                 1.0 / 479001600.0,
                                 1.0 / 39916800.0,
                                 1.0 / 3628800.0,
                                 1.0 / 362880.0,
                                 1.0 / 40320.0,
                                 1.0 / 5040.0,
                                 1.0 / 720.0,
                                 1.0 / 120.0,
                                 1.0 / 24.0,
                                 1.0 / 6.0,
                                 0.5,
                                 1.0,
                                 1.0};
  constexpr double kRound = 0x1.8p52;
  const double bounded = x > -708.0 ? x : -708.0;
  const double shifted = bounded * 0x1.71547652b82fep0 + kRound;
  const double k = shifted - kRound;
  const double r = (bounded - k * 0x1.62e42feep-1) - k * 0x1.a39ef35793c76p-33;
  double y = kInverse[0];
#pragma GCC unroll 13
  for (int i = 1; i < 14; ++i) y = y * r + kInverse[i];
  const uint64_t power = (std::bit_cast<uint64_t>(shifted) + 1023) << 52;
  const double result = y * std::bit_cast<double>(power);
  return x >= -708.0 ? result : 0.0;
}

}  // namespace plait
