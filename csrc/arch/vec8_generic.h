// Eight float lanes in plain C++: the definition, to the bit, of what the others compute.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace plait::PLAIT_ISA {
namespace {

constexpr int kLanes = 8;

struct Vec {
  float v[kLanes];
};

template <class F>
inline Vec lanes(F f) {
  Vec out;
  for (int i = 0; i < kLanes; ++i) out.v[i] = f(i);
  return out;
}

// IEEE half <-> single, round to nearest even, as the F16C instructions do.
inline float half_to_float(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16;
  const uint32_t exponent = (h >> 10) & 31u;
  uint32_t mantissa = h & 1023u;
  uint32_t bits;
  if (exponent == 31) {
    bits = sign | 0x7f800000u | (mantissa << 13) | (mantissa ? 0x400000u : 0);
  } else if (exponent != 0) {
    bits = sign | ((exponent + 112) << 23) | (mantissa << 13);
  } else if (mantissa == 0) {
    bits = sign;
  } else {
    const float value = static_cast<float>(mantissa) * 0x1p-24f;
    std::memcpy(&bits, &value, 4);
    bits |= sign;
  }
  float out;
  std::memcpy(&out, &bits, 4);
  return out;
}

inline uint16_t float_to_half(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  bits &= 0x7fffffffu;
  if (bits > 0x7f800000u) return sign | 0x7e00u | static_cast<uint16_t>((bits >> 13) & 0x3ffu);
  if (bits >= 0x477ff000u) return sign | 0x7c00u;
  if (bits < 0x38800000u) {  // subnormal half: adding 0.5 aligns the rounding at 2^-24
    float value;
    std::memcpy(&value, &bits, 4);
    value += 0.5f;
    std::memcpy(&bits, &value, 4);
    return sign | static_cast<uint16_t>(bits - 0x3f000000u);
  }
  const uint32_t odd = (bits >> 13) & 1u;
  return sign | static_cast<uint16_t>((bits - 0x38000000u + 0xfffu + odd) >> 13);
}

inline Vec load(const float* p) {
  return lanes([&](int i) { return p[i]; });
}
inline Vec load(const uint16_t* f16) {
  return lanes([&](int i) { return half_to_float(f16[i]); });
}
inline void store(float* p, Vec a) {
  std::memcpy(p, a.v, sizeof a.v);
}
inline void store(uint16_t* p, Vec a) {
  for (int i = 0; i < kLanes; ++i) p[i] = float_to_half(a.v[i]);
}
inline Vec splat(float x) {
  return lanes([&](int) { return x; });
}
inline Vec add(Vec a, Vec b) {
  return lanes([&](int i) { return a.v[i] + b.v[i]; });
}
inline Vec sub(Vec a, Vec b) {
  return lanes([&](int i) { return a.v[i] - b.v[i]; });
}
inline Vec mul(Vec a, Vec b) {
  return lanes([&](int i) { return a.v[i] * b.v[i]; });
}
inline Vec div(Vec a, Vec b) {
  return lanes([&](int i) { return a.v[i] / b.v[i]; });
}
inline Vec fma(Vec a, Vec b, Vec c) {
  return lanes([&](int i) { return std::fma(a.v[i], b.v[i], c.v[i]); });
}
inline Vec max(Vec a, Vec b) {
  return lanes([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
inline Vec min(Vec a, Vec b) {
  return lanes([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
inline Vec round_even(Vec a) {
  return lanes([&](int i) { return std::nearbyint(a.v[i]); });
}
inline Vec exponent_from(Vec a) {
  return lanes([&](int i) {
    uint32_t bits;
    std::memcpy(&bits, &a.v[i], sizeof bits);
    bits <<= 23;
    float out;
    std::memcpy(&out, &bits, sizeof out);
    return out;
  });
}
inline Vec keep_where_at_least(Vec x, Vec bound, Vec a) {
  return lanes([&](int i) { return x.v[i] >= bound.v[i] ? a.v[i] : 0.0f; });
}
inline float sum_lanes(Vec a) {
  const float* x = a.v;
  const float y[4] = {x[0] + x[4], x[1] + x[5], x[2] + x[6], x[3] + x[7]};
  return (y[0] + y[2]) + (y[1] + y[3]);
}
inline float max_lanes(Vec a) {
  float largest = a.v[0];
  for (int i = 1; i < kLanes; ++i) largest = a.v[i] > largest ? a.v[i] : largest;
  return largest;
}
inline float first_lane(Vec a) {
  return a.v[0];
}
template <int kDistance>
inline Vec swap_lanes(Vec a) {
  return lanes([&](int i) { return a.v[i ^ kDistance]; });
}

}  // namespace
}  // namespace plait::PLAIT_ISA
