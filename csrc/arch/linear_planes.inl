// Q8_0 in two planes: the whole product, and the screen, which reads the high plane only.
#include "linear_entry.h"
#include "linear_int8.h"
#include "plait/screen.h"
#include "quant/planes.h"
#include "quant/q4_0.h"

namespace plait::PLAIT_ISA {
namespace {

using quant::Planes;

// As Packed, joining the halves of a weight on the way.
struct PackedPlanes : Weights<quant::Q8_0> {
  static constexpr int kUnitBlocks = 1;
  static constexpr int kUnitBytes = Planes::kHighBytes;
  static constexpr int kLowUnitBytes = Planes::kLowBytes;
  static constexpr int kBlockBytes = Planes::kLowBytes;
  static constexpr bool kIsExpanded = false;
  static constexpr bool kIsSparse = false;

  template <int kPair>
  static PLAIT_INLINE void pair(Cursor block, Bytes& first, Bytes& second) {
    const Bytes high = load_bytes(block.plus(32 * kPair));
    const Bytes low = load_bytes(block.low().plus(32 * kPair));
    const Bytes low_half = splat_byte(0x0f), high_half = splat_byte(0xf0);
    first = signed_as_needed(either(both(shift<4>(high), high_half), both(low, low_half)));
    second = signed_as_needed(either(both(high, high_half), both(shift<-4>(low), low_half)));
  }
  static PLAIT_INLINE Cursor block(Cursor unit, int) { return unit.plus(Planes::kHeaderBytes); }
  static PLAIT_INLINE Floats scale(Cursor unit, int, int) { return load_halves(unit); }

 private:
  static PLAIT_INLINE Bytes signed_as_needed(Bytes a) {
    if constexpr (kFlips) return a;
    return flip(a, splat_byte(128));
  }
};

// The high plane as a matrix of its own: the low halves are taken for the middle of their range.
struct HighHalves : Packed<quant::Q4_0> {
  static constexpr int kOffset = 0;
  static constexpr bool kHasOffset = false;
  static constexpr bool kHasMin = true;
  static_assert(kUnitBytes == Planes::kHighBytes);

  static PLAIT_INLINE Floats minimum(Cursor unit, int block, int group) {
    return mul(scale(unit, block, group), splat(-8.0f + 7.5f / 16.0f));
  }
};

// The product with the high plane, as if that were a matrix of a format with 4 bits, whose weight
// 16 (high - 8) + 7.5 is the middle of what the whole weight can be; and per row of W
//   spread = sum over blocks of d^2 |x|^2
class Screen {
  using S = HighHalves;
  // Rests of fine blocks are left out: they are as small as the rounding of the others is. What
  // they may add goes into the spread, where a whole weight, up to 127, counts as a low half does.
  static constexpr float kRest = 127.0f * 127.0f * 12.0f / 255.0f;

 public:
  Screen(const LinearCall& call, const QuantizedRows& x, BestRows* best)
      : call_(call), x_(x), best_(best), panels_(call), num_blocks_(call.weights.cols() / 32) {
    prepare();
  }

  void run() {
    if (call_.num_rows == 1) return walk<4, 1>();
    if (call_.num_rows == 2) return walk<4, 2>();
    walk<2, kDecodeTokens<S>>();
  }

 private:
  // Scratch: the squares of all blocks.
  void prepare() {
    const int64_t rows = call_.num_rows;
    squares_ = reinterpret_cast<float*>(
        call_.scratch.bytes(static_cast<size_t>(rows * num_blocks_) * sizeof(float)));
    for (int64_t row = 0; row < rows; ++row) add_up(row);
    in_ = {.weights = {},
           .rows = {},
           .tokens = {x_.blocks, x_.scales, x_.stride()},
           .first_token = 0,
           .num_blocks = num_blocks_,
           .fine_blocks = nullptr,
           .num_fine = 0,
           .out = &call_.out,
           .row_end = panels_.row_end(),
           .ahead = nullptr,
           .ahead_per_block = 0};
  }

  void add_up(int64_t row) {
    const ActBlock* blocks = x_.blocks + row * x_.stride();
    const float scale = x_.scales[row];
    float* squares = squares_ + row * num_blocks_;
    for (int64_t i = 0; i < num_blocks_; ++i) squares[i] = square(blocks[i], scale);
    for (int64_t i = 0; i < x_.num_fine; ++i)
      squares[x_.fine_blocks[i]] += kRest * square(blocks[num_blocks_ + i], kRestScale * scale);
  }

  // |x|^2 of a block.
  static float square(const ActBlock& block, float scale) {
    float total = 0;
    for (int half = 0; half < 2; ++half) {
      int sum = 0;
      for (int i = 0; i < kActBlock; ++i) {
        const int value = block.values[half * kActBlock + i];
        sum += value * value;
      }
      const float step = static_cast<float>(block.multipliers[half][0]) * scale;
      total += step * step * static_cast<float>(sum);
    }
    return total;
  }

  void point(int index, int64_t vector) {
    in_.weights[index] = panels_.cursor(vector);
    in_.rows[index] = panels_.first_row(vector);
  }

  // As Int8Linear::decode.
  template <int kVectors, int kMaxTokens>
  void walk() {
    const int64_t share = panels_.num_vectors() / kVectors;
    for (int64_t i = 0; i < share; ++i) {
      for (int v = 0; v < kVectors; ++v) point(v, v * share + i);
      run_tokens<kVectors, kMaxTokens>();
    }
    for (int64_t i = share * kVectors; i < panels_.num_vectors(); ++i) {
      point(0, i);
      run_tokens<1, kMaxTokens>();
    }
  }

  template <int kVectors, int kMaxTokens>
  void run_tokens() {
    for (int64_t first = 0; first < call_.num_rows; first += kMaxTokens) {
      const int64_t left = call_.num_rows - first;
      unroll<kMaxTokens>([&](auto index) PLAIT_LAMBDA {
        constexpr int kTokens = index.value + 1;
        if (left == kTokens || (left > kTokens && kTokens == kMaxTokens))
          tile<kVectors, kTokens>(first);
      });
    }
  }

  template <int kVectors, int kTokens>
  [[gnu::noinline]] void tile(int64_t first) {
    Tile<S, kVectors, kTokens> tile;
    const Tokens x = in_.tokens.from(first);
    tile.start();
    for_each_block<S, kVectors>(
        in_,
        [&](const Cursor(&unit)[kVectors], int block, int64_t at)
            PLAIT_LAMBDA { tile.add_block(unit, block, x, at); },
        []() PLAIT_LAMBDA {});
    for (int v = 0; v < kVectors; ++v) {
      Floats spread[kTokens];
      add_spread(in_.weights[v], squares_ + first * num_blocks_, spread);
      for (int t = 0; t < kTokens; ++t)
        finish(first + t, in_.rows[v], mul(tile.total[v][t], splat(16.0f * x.scales[t])),
               spread[t]);
    }
  }

  template <int kTokens>
  PLAIT_INLINE void add_spread(Cursor unit, const float* squares, Floats (&spread)[kTokens]) {
    for (int t = 0; t < kTokens; ++t) spread[t] = splat(0.0f);
    for (int64_t block = 0; block < num_blocks_; ++block, unit = advance<S>(unit, 1)) {
      const Floats d = S::scale(unit, 0, 0), squared = mul(d, d);
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t)
        spread[t] = fma(squared, splat(squares[t * num_blocks_ + block]), spread[t]);
    }
  }

  void finish(int64_t token, int64_t row, Floats middle, Floats spread) {
    const Floats half = mul(sqrt(spread), splat(kScreenMargin));
    const Floats low = add(middle, negate(half));
    const int64_t count = in_.row_end - row;
    store_rows(call_.out.data + token * call_.out.stride + row, add(middle, half), count);
    BestRows& best = best_[token];
    if (!any_above(low, best.floor)) return;
    alignas(kVectorBytes) float lower[kVectorRows];
    store_aligned(lower, low);
    for (int64_t i = 0; i < kVectorRows && i < count; ++i)
      if (lower[i] > best.floor) best.offer(lower[i], row + i);
  }

  const LinearCall& call_;
  const QuantizedRows& x_;
  BestRows* best_;
  const VectorRange panels_;
  const int64_t num_blocks_;
  TileInput in_{};
  float* squares_ = nullptr;  // |x|^2 of each block, [num_rows][num_blocks]
};

}  // namespace

void linear_planes(const LinearCall& call, const QuantizedRows& x) {
  Int8Linear<PackedPlanes>(call, x).run();
}

void screen_planes(const LinearCall& call, const QuantizedRows& x, BestRows* best) {
  Screen(call, x, best).run();
}

}  // namespace plait::PLAIT_ISA
