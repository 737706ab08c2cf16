// Lanes for NEON: one panel per vector, which is two registers of 4 rows each.
#pragma once

#include <arm_neon.h>

#include "linear_lanes_common.h"

namespace plait::PLAIT_ISA {
namespace {

// Bytes: 8 rows x 4 columns; the same registers as one integer per row.
struct Ints {
  int32x4_t low, high;
};
using Bytes = Ints;
struct Floats {  // one per row
  float32x4_t low, high;
};
constexpr int kVectorPanels = 1;
#if defined(__ARM_FEATURE_DOTPROD)
#define PLAIT_HAS_DOT
constexpr bool kHasDot = true;
#else
constexpr bool kHasDot = false;
#endif
constexpr bool kTakesSigned = true;
constexpr int kVectorRows = 8 * kVectorPanels;
constexpr int kVectorBytes = 4 * kVectorRows;

PLAIT_INLINE int8x16_t s8(int32x4_t a) {
  return vreinterpretq_s8_s32(a);
}
PLAIT_INLINE uint8x16_t u8(int32x4_t a) {
  return vreinterpretq_u8_s32(a);
}
PLAIT_INLINE int16x8_t s16(int32x4_t a) {
  return vreinterpretq_s16_s32(a);
}
PLAIT_INLINE int32x4_t lane(int8x16_t a) {
  return vreinterpretq_s32_s8(a);
}
PLAIT_INLINE int32x4_t lane(uint8x16_t a) {
  return vreinterpretq_s32_u8(a);
}
PLAIT_INLINE int32x4_t lane(int16x8_t a) {
  return vreinterpretq_s32_s16(a);
}
PLAIT_INLINE int32x4_t lane(uint32x4_t a) {
  return vreinterpretq_s32_u32(a);
}

PLAIT_INLINE Bytes load_bytes(Cursor from) {
  return {lane(vld1q_u8(from.at)), lane(vld1q_u8(from.at + 16))};
}
// 8 halves, or 8 bytes, per panel.
PLAIT_INLINE Floats load_halves(Cursor from) {
  const float16x8_t halves = vreinterpretq_f16_u8(vld1q_u8(from.at));
  return {vcvt_f32_f16(vget_low_f16(halves)), vcvt_high_f32_f16(halves)};
}
PLAIT_INLINE Ints load_u8(Cursor from) {
  const uint16x8_t words = vmovl_u8(vld1_u8(from.at));
  return {lane(vmovl_u16(vget_low_u16(words))), lane(vmovl_high_u16(words))};
}
PLAIT_INLINE Ints load_i8(Cursor from) {
  const int16x8_t words = vmovl_s8(vreinterpret_s8_u8(vld1_u8(from.at)));
  return {vmovl_s16(vget_low_s16(words)), vmovl_high_s16(words)};
}
PLAIT_INLINE Floats load_floats(Cursor from) {
  return {vreinterpretq_f32_u8(vld1q_u8(from.at)), vreinterpretq_f32_u8(vld1q_u8(from.at + 16))};
}
PLAIT_INLINE Floats load_bfloats(Cursor from) {
  const uint16x8_t words = vreinterpretq_u16_u8(vld1q_u8(from.at));
  return {vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(words), 16)),
          vreinterpretq_f32_u32(vshll_high_n_u16(words, 16))};
}

// Contiguous, aligned: scratch.
PLAIT_INLINE Bytes load_aligned(const uint8_t* at) {
  return load_bytes({at, 0});
}
PLAIT_INLINE Floats load_aligned(const float* at) {
  return {vld1q_f32(at), vld1q_f32(at + 4)};
}
PLAIT_INLINE void store_aligned(uint8_t* at, Bytes a) {
  vst1q_u8(at, u8(a.low));
  vst1q_u8(at + 16, u8(a.high));
}
PLAIT_INLINE void store_aligned(float* at, Floats a) {
  vst1q_f32(at, a.low);
  vst1q_f32(at + 4, a.high);
}

PLAIT_INLINE Bytes splat_byte(int value) {
  const int32x4_t all = lane(vdupq_n_s8(static_cast<int8_t>(value)));
  return {all, all};
}
PLAIT_INLINE Ints splat(int32_t value) {
  return {vdupq_n_s32(value), vdupq_n_s32(value)};
}
PLAIT_INLINE Floats splat(float value) {
  return {vdupq_n_f32(value), vdupq_n_f32(value)};
}
PLAIT_INLINE Bytes splat_table(const int8_t* sixteen) {
  const int32x4_t table = lane(vld1q_s8(sixteen));
  return {table, table};
}
// Four neighbouring activations, for every row.
PLAIT_INLINE Bytes splat_chunk(const int8_t* four) {
  int32_t word;
  std::memcpy(&word, four, sizeof word);
  return splat(word);
}

// An integer in every place that `multiply` or `multiply_pairs` wants it.
PLAIT_INLINE Ints splat_multiplier(const uint16_t (&twice)[2]) {
#if defined(PLAIT_HAS_DOT)
  return splat(int32_t{twice[0]});
#else
  const int32x4_t all = lane(vdupq_n_s16(static_cast<int16_t>(twice[0])));
  return {all, all};
#endif
}
// a times a power of two.
template <int kPower>
PLAIT_INLINE Ints times(Ints a) {
  constexpr int kShift = std::countr_zero(static_cast<unsigned>(kPower));
  return {vshlq_n_s32(a.low, kShift), vshlq_n_s32(a.high, kShift)};
}

PLAIT_INLINE Bytes both(Bytes a, Bytes b) {
  return {vandq_s32(a.low, b.low), vandq_s32(a.high, b.high)};
}
PLAIT_INLINE Bytes either(Bytes a, Bytes b) {
  return {vorrq_s32(a.low, b.low), vorrq_s32(a.high, b.high)};
}
PLAIT_INLINE Bytes flip(Bytes a, Bytes b) {
  return {veorq_s32(a.low, b.low), veorq_s32(a.high, b.high)};
}
PLAIT_INLINE Bytes look_up(Bytes table, Bytes index) {
  return {lane(vqtbl1q_s8(s8(table.low), u8(index.low))),
          lane(vqtbl1q_s8(s8(table.high), u8(index.high)))};
}
// What crosses a byte is lost here; elsewhere it must be masked away. A negative distance goes
// right.
template <int kDistance>
PLAIT_INLINE Bytes shift(Bytes a) {
  if constexpr (kDistance > 0)
    return {lane(vshlq_n_u8(u8(a.low), kDistance)), lane(vshlq_n_u8(u8(a.high), kDistance))};
  if constexpr (kDistance < 0)
    return {lane(vshrq_n_u8(u8(a.low), -kDistance)), lane(vshrq_n_u8(u8(a.high), -kDistance))};
  return a;
}
// Byte k of each lane, as an integer.
template <int kByte>
PLAIT_INLINE int32x4_t unsigned_byte(int32x4_t a) {
  if constexpr (kByte == 0) return vandq_s32(a, vdupq_n_s32(255));
  if constexpr (kByte > 0)
    return vandq_s32(vshrq_n_s32(a, kByte > 0 ? 8 * kByte : 1), vdupq_n_s32(255));
}
template <int kByte>
PLAIT_INLINE Ints unsigned_byte(Bytes a) {
  return {unsigned_byte<kByte>(a.low), unsigned_byte<kByte>(a.high)};
}
template <int kByte>
PLAIT_INLINE Ints signed_byte(Bytes a) {
  return {vshrq_n_s32(vshlq_n_s32(a.low, 24 - 8 * kByte), 24),
          vshrq_n_s32(vshlq_n_s32(a.high, 24 - 8 * kByte), 24)};
}

PLAIT_INLINE Ints add(Ints a, Ints b) {
  return {vaddq_s32(a.low, b.low), vaddq_s32(a.high, b.high)};
}
PLAIT_INLINE Ints subtract(Ints a, Ints b) {
  return {vsubq_s32(a.low, b.low), vsubq_s32(a.high, b.high)};
}
PLAIT_INLINE Bytes add_bytes(Bytes a, Bytes b) {
  return {lane(vaddq_s8(s8(a.low), s8(b.low))), lane(vaddq_s8(s8(a.high), s8(b.high)))};
}
PLAIT_INLINE Bytes subtract_bytes(Bytes a, Bytes b) {
  return {lane(vsubq_s8(s8(a.low), s8(b.low))), lane(vsubq_s8(s8(a.high), s8(b.high)))};
}
PLAIT_INLINE Floats to_float(Ints a) {
  return {vcvtq_f32_s32(a.low), vcvtq_f32_s32(a.high)};
}
PLAIT_INLINE Floats add(Floats a, Floats b) {
  return {vaddq_f32(a.low, b.low), vaddq_f32(a.high, b.high)};
}
PLAIT_INLINE Floats mul(Floats a, Floats b) {
  return {vmulq_f32(a.low, b.low), vmulq_f32(a.high, b.high)};
}
PLAIT_INLINE Floats fma(Floats a, Floats b, Floats c) {
  return {vfmaq_f32(c.low, a.low, b.low), vfmaq_f32(c.high, a.high, b.high)};
}
PLAIT_INLINE Floats sqrt(Floats a) {
  return {vsqrtq_f32(a.low), vsqrtq_f32(a.high)};
}
PLAIT_INLINE bool any_above(Floats a, float bound) {
  return vmaxvq_f32(vmaxnmq_f32(a.low, a.high)) > bound;
}
PLAIT_INLINE Floats negate(Floats a) {
  return {vnegq_f32(a.low), vnegq_f32(a.high)};
}

// Keeps an accumulator in its registers, and the additions of a tile in their order.
PLAIT_INLINE void pin(Ints& a) {
  asm("" : "+w"(a.low), "+w"(a.high));
}

#if defined(PLAIT_HAS_DOT)
PLAIT_INLINE Ints dot(Ints total, Bytes weights, Bytes x) {
  return {vdotq_s32(total.low, s8(weights.low), s8(x.low)),
          vdotq_s32(total.high, s8(weights.high), s8(x.high))};
}
PLAIT_INLINE Ints multiply(Ints a, Ints b) {
  return {vmulq_s32(a.low, b.low), vmulq_s32(a.high, b.high)};
}
// a times the first multiplier + b times the second.
PLAIT_INLINE Ints multiply_both(Ints a, Ints b, const uint16_t (&multipliers)[2][2]) {
  const int32_t first = multipliers[0][0], second = multipliers[1][0];
  return {vmlaq_n_s32(vmulq_n_s32(a.low, first), b.low, second),
          vmlaq_n_s32(vmulq_n_s32(a.high, first), b.high, second)};
}
#endif

#if defined(__ARM_FEATURE_MATMUL_INT8)
#define PLAIT_HAS_MATRIX
// `smmla`: 2 rows x 8 columns by 8 columns x 2 tokens. Two neighbouring chunks of a panel, zipped,
// are four such pairs of rows.
struct RowPairs {
  int8x16_t at[4];
};
using TokenPair = int8x16_t;
struct PairSums {  // [2 rows][2 tokens] each
  int32x4_t at[4];
};

PLAIT_INLINE RowPairs pair_rows(Bytes first, Bytes second) {
  return {{s8(vzip1q_s32(first.low, second.low)), s8(vzip2q_s32(first.low, second.low)),
           s8(vzip1q_s32(first.high, second.high)), s8(vzip2q_s32(first.high, second.high))}};
}
PLAIT_INLINE TokenPair pair_tokens(const int8_t* first, const int8_t* second) {
  return vcombine_s8(vld1_s8(first), vld1_s8(second));
}
PLAIT_INLINE int32x4_t pair_multipliers(const uint16_t (&first)[2], const uint16_t (&second)[2]) {
  const int32x2_t both = vset_lane_s32(second[0], vdup_n_s32(first[0]), 1);
  return vcombine_s32(both, both);
}
// The products of 16 columns, times each token's multiplier.
PLAIT_INLINE PairSums matrix(const RowPairs (&rows)[2], const TokenPair (&x)[2],
                             int32x4_t multipliers) {
  PairSums sums;
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const int32x4_t first = vmmlaq_s32(vdupq_n_s32(0), rows[0].at[i], x[0]);
    sums.at[i] = vmulq_s32(vmmlaq_s32(first, rows[1].at[i], x[1]), multipliers);
  }
  return sums;
}
PLAIT_INLINE PairSums add(const PairSums& a, const PairSums& b) {
  PairSums sums;
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) sums.at[i] = vaddq_s32(a.at[i], b.at[i]);
  return sums;
}
// One of the two tokens, an integer per row.
template <int kToken>
PLAIT_INLINE Ints of_token(const PairSums& sums) {
  const auto& at = sums.at;
  if constexpr (kToken == 0) return {vuzp1q_s32(at[0], at[1]), vuzp1q_s32(at[2], at[3])};
  return {vuzp2q_s32(at[0], at[1]), vuzp2q_s32(at[2], at[3])};
}
#endif

// Without `dot`: products of weights and activations, added in pairs to 16 bits. The caller sees to
// it that they fit. Signed, since unsigned weights have at most 6 bits.
PLAIT_INLINE int32x4_t pair_dot(int8x16_t weights, int8x16_t x) {
  return lane(
      vpaddq_s16(vmull_s8(vget_low_s8(weights), vget_low_s8(x)), vmull_high_s8(weights, x)));
}
PLAIT_INLINE Ints pair_dot(Bytes weights, Bytes x) {
  return {pair_dot(s8(weights.low), s8(x.low)), pair_dot(s8(weights.high), s8(x.high))};
}
PLAIT_INLINE Ints add_pairs(Ints a, Ints b) {
  return {lane(vaddq_s16(s16(a.low), s16(b.low))), lane(vaddq_s16(s16(a.high), s16(b.high)))};
}
PLAIT_INLINE Ints subtract_pairs(Ints a, Ints b) {
  return {lane(vsubq_s16(s16(a.low), s16(b.low))), lane(vsubq_s16(s16(a.high), s16(b.high)))};
}
// Pairs times a multiplier, added to 32 bits.
PLAIT_INLINE int32x4_t multiply_pairs(int16x8_t a, int16x8_t multiplier) {
  return vpaddq_s32(vmull_s16(vget_low_s16(a), vget_low_s16(multiplier)),
                    vmull_high_s16(a, multiplier));
}
PLAIT_INLINE Ints multiply_pairs(Ints a, Ints multiplier) {
  return {multiply_pairs(s16(a.low), s16(multiplier.low)),
          multiply_pairs(s16(a.high), s16(multiplier.high))};
}
// Signed products need no separate sign.
PLAIT_INLINE Bytes magnitude(Bytes a) {
  return a;
}
PLAIT_INLINE Bytes with_sign(Bytes a, Bytes) {
  return a;
}

// One row of out per token: elements [0, count) of a vector of rows.
PLAIT_INLINE void store_rows(float* at, Floats a, int64_t count) {
  if (count >= kVectorRows) return store_aligned(at, a);
  float rows[kVectorRows];
  store_aligned(rows, a);
  for (int64_t i = 0; i < count; ++i) at[i] = rows[i];
}
PLAIT_INLINE Floats load_rows(const float* at, int64_t count) {
  if (count >= kVectorRows) return load_aligned(at);
  float rows[kVectorRows] = {};
  for (int64_t i = 0; i < count; ++i) rows[i] = at[i];
  return load_aligned(rows);
}

PLAIT_INLINE void prefetch(const uint8_t* at) {
  __builtin_prefetch(at, 0, 3);
}
// Into the second cache only.
PLAIT_INLINE void prefetch_far(const uint8_t* at) {
  __builtin_prefetch(at, 0, 2);
}

}  // namespace
}  // namespace plait::PLAIT_ISA
