// The loops of plait/measure.h for one instruction set.
#include <cstring>
#include <utility>

#include "ops/measure_table.h"
#include "plait/measure.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace plait::PLAIT_ISA {
namespace {

constexpr int kChains = 10;  // accumulators: enough to hide the latency of a product

#if defined(__AVX512VNNI__)

using Lanes = __m512i;

inline Lanes load(const uint8_t* at) {
  return _mm512_loadu_si512(at);
}
inline Lanes mix(Lanes a, Lanes b) {
  return _mm512_xor_si512(a, b);
}
// Products of 64 bytes added to `total`.
inline Lanes multiply_add(Lanes total, Lanes weights, Lanes x) {
  return _mm512_dpbusd_epi32(total, weights, x);
}
// The compiler must take the value for a new one: nothing is computed once for all rounds.
inline void renew(Lanes& a) {
  asm volatile("" : "+v"(a));
}

#elif defined(__AVX2__)

using Lanes = __m256i;

inline Lanes load(const uint8_t* at) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
}
inline Lanes mix(Lanes a, Lanes b) {
  return _mm256_xor_si256(a, b);
}
// Products of 32 bytes added to `total`.
inline Lanes multiply_add(Lanes total, Lanes weights, Lanes x) {
#if defined(__AVXVNNI__)
  return _mm256_dpbusd_avx_epi32(total, weights, x);
#else
  return _mm256_add_epi16(total, _mm256_maddubs_epi16(weights, x));
#endif
}
inline void renew(Lanes& a) {
  asm volatile("" : "+x"(a));
}

#else

struct Lanes {
  int64_t v[4];
};

inline Lanes load(const uint8_t* at) {
  Lanes out;
  std::memcpy(out.v, at, sizeof out.v);
  return out;
}
inline Lanes mix(Lanes a, Lanes b) {
  for (int i = 0; i < 4; ++i) a.v[i] ^= b.v[i];
  return a;
}
inline Lanes multiply_add(Lanes total, Lanes weights, Lanes x) {
  uint8_t w[32];
  int8_t s[32];
  int32_t sums[8];
  std::memcpy(w, weights.v, 32);
  std::memcpy(s, x.v, 32);
  std::memcpy(sums, total.v, 32);
  for (int i = 0; i < 8; ++i) {
    int dot = 0;
    for (int j = 4 * i; j < 4 * i + 4; ++j) dot += w[j] * s[j];
    sums[i] = static_cast<int32_t>(static_cast<uint32_t>(sums[i]) + static_cast<uint32_t>(dot));
  }
  std::memcpy(total.v, sums, 32);
  return total;
}
inline void renew(Lanes& a) {
  asm volatile("" : "+m"(a));
}

#endif

uint64_t digest(Lanes a) {
  uint64_t words[sizeof a / sizeof(uint64_t)];
  std::memcpy(words, &a, sizeof words);
  uint64_t seen = 0;
  for (uint64_t word : words) seen ^= word;
  return seen;
}

// Arrays are indexed by constants only, so that their elements stay in registers.
template <int... kStream>
uint64_t read_streams(const uint8_t* begin, size_t bytes, std::integer_sequence<int, kStream...>) {
  Lanes seen[sizeof...(kStream)] = {};
  for (size_t at = 0; at < bytes; at += 2 * sizeof(Lanes)) {
    const auto next = [&](Lanes& total, size_t stream) {
      const uint8_t* from = begin + stream * bytes + at;
      total = mix(total, mix(load(from), load(from + sizeof(Lanes))));
    };
    (next(seen[kStream], kStream), ...);
  }
  return (digest(seen[kStream]) ^ ...);
}

uint64_t read(const uint8_t* begin, size_t bytes) {
  return read_streams(begin, bytes, std::make_integer_sequence<int, kReadStreams>{});
}

uint64_t multiply(int64_t rounds) {
  Lanes totals[kChains] = {};
  uint8_t bytes[sizeof(Lanes)];
  std::memset(bytes, 3, sizeof bytes);
  Lanes weights = load(bytes);
  const Lanes x = weights;
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) {
      renew(weights);
      totals[i] = multiply_add(totals[i], weights, x);
      renew(totals[i]);  // stays in its register
    }
  }
  Lanes seen{};
#pragma GCC unroll 16
  for (int i = 0; i < kChains; ++i) seen = mix(seen, totals[i]);
  return digest(seen);
}

}  // namespace

const MeasureTable& measure_table() {
  static constexpr MeasureTable table{read, multiply, sizeof(Lanes) * kChains};
  return table;
}

}  // namespace plait::PLAIT_ISA
