// Q8_0 in two planes: the whole product, and the screen, which reads the high plane only.
#include "linear_entry.h"
#include "linear_int8.h"
#include "plait/screen.h"
#include "quant/planes.h"
#include "quant/q4_0.h"

namespace plait::PLAIT_ISA {
namespace {

using quant::Planes;

// The product: two vectors at a time are joined to bytes as other panels are for many tokens.
// Reading memory takes longer than that even for one token.
class PlanesLinear {
  using S = Packed<quant::Q8_0>;
  using E = ExpandedOf<S>;

 public:
  PlanesLinear(const LinearCall& call, const QuantizedRows& x)
      : call_(call), panels_(call), cols_(call.weights.cols()) {
    prepare(x);
  }

  void run() {
    for (int64_t token = 0; token < call_.num_rows; token += kTokenBlock) {
      const int64_t left = call_.num_rows - token;
      multiply(token, left < kTokenBlock ? left : kTokenBlock);
    }
  }

 private:
  void prepare(const QuantizedRows& x) {
    const int64_t num_sums = S::kHasOffset ? call_.num_rows * (x.stride() / kActBlock) : 0;
    const size_t side = static_cast<size_t>((num_sums * 4 + 63) / 64 * 64);
    uint8_t* scratch = call_.scratch.bytes(side + 2 * expanded_bytes());
    auto* offsets = reinterpret_cast<int32_t*>(scratch);
    for (int64_t i = 0; i < num_sums; ++i) offsets[i] = -S::kOffset * x.sums[i];
    expanded_ = scratch + side;
    input_ = {
        .weights = {},
        .rows = {},
        .tokens = {x.values, x.scales, S::kHasOffset ? offsets : nullptr, nullptr, x.stride()},
        .first_token = 0,
        .num_blocks = cols_ / 32,
        .fine_blocks = x.fine_blocks,
        .num_fine = x.num_fine,
        .out = &call_.out,
        .row_end = panels_.row_end(),
        .ahead = nullptr,
        .ahead_per_block = 0};
  }

  size_t expanded_bytes() const { return static_cast<size_t>(cols_ / 32) * E::kUnitBytes; }

  void multiply(int64_t token, int64_t count) {
    TileInput in = input_;
    in.tokens = input_.tokens.from(token, S::kGroup);
    in.first_token = token;
    const int64_t even = panels_.num_vectors() / 2 * 2;
    for (int64_t i = 0; i < even; i += 2) {
      for (int v = 0; v < 2; ++v) join(in, v, i + v);
      run_tiles<E, 2, kTileTokens<S>>(in, count);
    }
    if (even == panels_.num_vectors()) return;
    join(in, 0, even);
    run_tiles<E, 1, kTileTokens<S>>(in, count);
  }

  void join(TileInput& in, int index, int64_t vector) const {
    uint8_t* bytes = expanded_ + static_cast<size_t>(index) * expanded_bytes();
    const Cursor high = panels_.cursor(vector);
    const int64_t next = high.next == 0 ? 0 : static_cast<int64_t>(call_.weights.low_panel_bytes());
    join_planes(high, {call_.weights.low_panel(panels_.panel(vector)), next}, bytes);
    in.weights[index] = {bytes, 0};
    in.rows[index] = panels_.first_row(vector);
  }

  void join_planes(Cursor high, Cursor low, uint8_t* out) const {
    for (int64_t column = 0; column < cols_; column += Planes::kColumns) {
      for (int line = 0; line < Planes::kHighBytes; line += 64) {
        prefetch(high.at + kPrefetchAhead + line);
        prefetch(low.at + kPrefetchAhead + line);
      }
      store_aligned(reinterpret_cast<float*>(out), load_halves(high));
      unroll<4>([&](auto pair) PLAIT_LAMBDA {
        const Bytes highs = load_bytes(high.plus(Planes::kHeaderBytes + 32 * pair.value));
        const Bytes lows = load_bytes(low.plus(32 * pair.value));
        const Bytes low_half = splat_byte(0x0f), high_half = splat_byte(0xf0);
        const Bytes first = either(both(shift<4>(highs), high_half), both(lows, low_half));
        const Bytes second = either(both(highs, high_half), both(shift<-4>(lows), low_half));
        uint8_t* at = out + E::kChunksAt + 2 * pair.value * kVectorBytes;
        store_aligned(at, signed_as_needed(first));
        store_aligned(at + kVectorBytes, signed_as_needed(second));
      });
      high = high.plus(Planes::kHighBytes);
      low = low.plus(Planes::kLowBytes);
      out += E::kUnitBytes;
    }
  }

  static PLAIT_INLINE Bytes signed_as_needed(Bytes a) {
    if constexpr (S::kFlips) return a;
    return flip(a, splat_byte(128));
  }

  const LinearCall& call_;
  const VectorRange panels_;
  const int64_t cols_;
  TileInput input_{};
  uint8_t* expanded_ = nullptr;
};

// Sums over the high plane, as if it were a matrix of a format with 4 bits, and per row of W:
//   centre = sum over blocks of d * (sum of x)     spread = sum over blocks of d^2 |x|^2
class Screen {
  using S = Packed<quant::Q4_0>;
  static_assert(S::kUnitBytes == Planes::kHighBytes);
  static constexpr int kMostTokens = kDecodeTokens<S> < 4 ? kDecodeTokens<S> : 4;

 public:
  Screen(const LinearCall& call, const QuantizedRows& x, BestRows* best)
      : call_(call), x_(x), best_(best), panels_(call), num_blocks_(call.weights.cols() / 32) {
    prepare();
  }

  void run() {
    constexpr int kVectors = 2;
    const int64_t share = panels_.num_vectors() / kVectors;
    for (int64_t i = 0; i < share; ++i) {
      for (int v = 0; v < kVectors; ++v) point(v, v * share + i);
      run_tokens<kVectors>();
    }
    for (int64_t i = share * kVectors; i < panels_.num_vectors(); ++i) {
      point(0, i);
      run_tokens<1>();
    }
  }

 private:
  // Scratch: offsets of all tokens, sums and squares of their blocks, one row as floats.
  void prepare() {
    const int64_t rows = call_.num_rows, cells = rows * (x_.stride() / kActBlock);
    const int64_t blocks = rows * num_blocks_;
    auto* offsets = reinterpret_cast<int32_t*>(
        call_.scratch.bytes(static_cast<size_t>(cells + 2 * blocks + 32 * num_blocks_) * 4));
    for (int64_t i = 0; i < cells; ++i) offsets[i] = -S::kOffset * x_.sums[i];
    sums_ = reinterpret_cast<float*>(offsets + cells);
    squares_ = sums_ + blocks;
    for (int64_t row = 0; row < rows; ++row) add_up(row, squares_ + blocks);
    in_ = {.weights = {},
           .rows = {},
           .tokens = {x_.values, x_.scales, offsets, nullptr, x_.stride()},
           .first_token = 0,
           .num_blocks = num_blocks_,
           .fine_blocks = x_.fine_blocks,
           .num_fine = x_.num_fine,
           .out = &call_.out,
           .row_end = panels_.row_end(),
           .ahead = nullptr,
           .ahead_per_block = 0};
  }

  void add_up(int64_t row, float* x) {
    const int8_t* values = x_.values + row * x_.stride();
    const float* scales = x_.scales + row * (x_.stride() / kActBlock);
    for (int64_t i = 0; i < 32 * num_blocks_; ++i)
      x[i] = scales[i / kActBlock] * static_cast<float>(values[i]);
    for (int64_t fine = 0; fine < x_.num_fine; ++fine)
      for (int64_t i = 0; i < 32; ++i) {
        const int64_t rest = x_.cols + 32 * fine + i;
        x[32 * x_.fine_blocks[fine] + i] +=
            scales[rest / kActBlock] * static_cast<float>(values[rest]);
      }
    for (int64_t block = 0; block < num_blocks_; ++block) {
      float sum = 0, square = 0;
      for (int64_t i = 32 * block; i < 32 * block + 32; ++i) sum += x[i], square += x[i] * x[i];
      sums_[row * num_blocks_ + block] = sum;
      squares_[row * num_blocks_ + block] = square;
    }
  }

  void point(int index, int64_t vector) {
    in_.weights[index] = panels_.cursor(vector);
    in_.rows[index] = panels_.first_row(vector);
  }

  template <int kVectors>
  void run_tokens() {
    for (int64_t first = 0; first < call_.num_rows; first += kMostTokens) {
      const int64_t left = call_.num_rows - first;
      unroll<kMostTokens>([&](auto index) PLAIT_LAMBDA {
        constexpr int kTokens = index.value + 1;
        if (left == kTokens || (left > kTokens && kTokens == kMostTokens))
          tile<kVectors, kTokens>(first);
      });
    }
  }

  template <int kVectors, int kTokens>
  [[gnu::noinline]] void tile(int64_t first) {
    Tile<S, kVectors, kTokens> tile;
    Floats centre[kVectors][kTokens], spread[kVectors][kTokens];
    for (int v = 0; v < kVectors; ++v)
      for (int t = 0; t < kTokens; ++t) centre[v][t] = spread[v][t] = splat(0.0f);
    const Tokens x = in_.tokens.from(first, S::kGroup);
    const float* sums = sums_ + first * num_blocks_;
    const float* squares = squares_ + first * num_blocks_;
    tile.start(x);
    for_each_block<S, kVectors>(
        in_, [&](const Cursor(&unit)[kVectors], int block, int64_t column) PLAIT_LAMBDA {
          tile.add_block(unit, block, x, column);
          if (column >= x_.cols) return;
#pragma GCC unroll 4
          for (int v = 0; v < kVectors; ++v) {
            const Floats d = S::scale(unit[v], block, 0), squared = mul(d, d);
#pragma GCC unroll 4
            for (int t = 0; t < kTokens; ++t) {
              const int64_t at = t * num_blocks_ + column / 32;
              centre[v][t] = fma(d, splat(sums[at]), centre[v][t]);
              spread[v][t] = fma(squared, splat(squares[at]), spread[v][t]);
            }
          }
        });
    for (int v = 0; v < kVectors; ++v)
      for (int t = 0; t < kTokens; ++t) {
        const Floats middle = fma(tile.total[v][t], splat(16.0f), mul(centre[v][t], splat(7.5f)));
        finish(first + t, in_.rows[v], middle, spread[v][t]);
      }
  }

  void finish(int64_t token, int64_t row, Floats middle, Floats spread) {
    alignas(64) float lower[kVectorRows], upper[kVectorRows], margin[kVectorRows];
    store_aligned(upper, middle);
    store_aligned(margin, spread);
    const int64_t left = in_.row_end - row;
    const int64_t count = left < kVectorRows ? left : kVectorRows;
    BestRows& best = best_[token];
    int is_any = 0;
    for (int i = 0; i < kVectorRows; ++i) {
      const float half = kScreenMargin * __builtin_sqrtf(margin[i]);
      lower[i] = upper[i] - half;
      upper[i] += half;
      is_any |= lower[i] > best.floor;
    }
    float* at = call_.out.data + token * call_.out.stride + row;
    for (int64_t i = 0; i < count; ++i) at[i] = upper[i];
    if (is_any == 0) return;
    for (int64_t i = 0; i < count; ++i)
      if (lower[i] > best.floor) best.offer(lower[i], row + i);
  }

  const LinearCall& call_;
  const QuantizedRows& x_;
  BestRows* best_;
  const VectorRange panels_;
  const int64_t num_blocks_;
  TileInput in_{};
  float* sums_ = nullptr;     // [num_rows][num_blocks]
  float* squares_ = nullptr;  // the same
};

}  // namespace

void linear_planes(const LinearCall& call, const QuantizedRows& x) {
  PlanesLinear(call, x).run();
}

void screen_planes(const LinearCall& call, const QuantizedRows& x, BestRows* best) {
  Screen(call, x, best).run();
}

}  // namespace plait::PLAIT_ISA
