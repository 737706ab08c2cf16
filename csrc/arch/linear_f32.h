// The float path: weights as floats, K in order, one fma per element.
#pragma once

#include "linear_source.h"
#include "linear_tile.h"
#include "plait/format.h"

namespace plait::PLAIT_ISA {
namespace {

// Panels of plain floats: [column][8 rows] of one element type.
template <Format kFormat>
struct FloatPanel {
  static constexpr int kElementBytes = kFormat == Format::f32 ? 4 : 2;
  static constexpr int kColumnBytes = 8 * kElementBytes;

  static PLAIT_INLINE Floats load(Cursor column) {
    if constexpr (kFormat == Format::f32) return load_floats(column);
    if constexpr (kFormat == Format::f16) return load_halves(column);
    if constexpr (kFormat == Format::bf16) return load_bfloats(column);
  }
};

// A vector of panels as floats in scratch: [column][kVectorRows].
struct FloatScratch {
  static constexpr int kColumnBytes = kVectorBytes;

  static PLAIT_INLINE Floats load(Cursor column) {
    return load_aligned(reinterpret_cast<const float*>(column.at));
  }
};

// Writes `count` columns from `column` on as floats. Block formats: both are multiples of 32.
template <Format kFormat>
void expand_floats(Cursor panel, int64_t column, int64_t count, float* out) {
  using W = FloatPanel<kFormat>;
  for (int64_t i = 0; i < count; ++i)
    store_aligned(out + i * kVectorRows, W::load(panel.plus((column + i) * W::kColumnBytes)));
}

template <class F>
struct BlockExpander {
  using S = Packed<F>;

  // Integer weight k of each lane: what the bytes mean, with the offset of the bytes taken off.
  template <int kByte>
  static PLAIT_INLINE Floats weight(Bytes chunk) {
    const Ints value = S::kSignTrick ? signed_byte<kByte>(chunk) : unsigned_byte<kByte>(chunk);
    return to_float(S::kHasOffset ? add(value, splat(-S::kOffset)) : value);
  }

  static PLAIT_INLINE void chunk(Bytes codes, Floats scale, Floats minimum, float* out) {
    unroll<4>([&](auto byte) PLAIT_LAMBDA {
      const Floats product = mul(scale, weight<byte.value>(codes));
      store_aligned(out + byte.value * kVectorRows, S::kHasMin ? add(product, minimum) : product);
    });
  }

  static void block(Cursor unit, int index, float* out) {
    unroll<4>([&](auto pair) PLAIT_LAMBDA {
      constexpr int kGroup = pair.value * 8 / S::kGroup;
      const Floats scale = S::scale(unit, index, kGroup);
      const Floats minimum = S::kHasMin ? S::minimum(unit, index, kGroup) : scale;
      Bytes first, second;
      S::template pair<pair.value>(S::block(unit, index), first, second);
      chunk(first, scale, minimum, out + 8 * pair.value * kVectorRows);
      chunk(second, scale, minimum, out + (8 * pair.value + 4) * kVectorRows);
    });
  }
};

template <class F>
void expand_floats(Cursor panel, int64_t column, int64_t count, float* out) {
  using S = Packed<F>;
  for (int64_t i = column / 32; i < (column + count) / 32; ++i, out += 32 * kVectorRows)
    BlockExpander<F>::block(panel.plus(i / S::kUnitBlocks * S::kUnitBytes),
                            static_cast<int>(i % S::kUnitBlocks), out);
}

struct FloatTileInput {
  Cursor weights[kMaxVectors];
  const float* x;  // [tokens][x_stride], from the first of the columns on
  int64_t x_stride;
  int64_t columns;
  float* totals;  // [tokens][kVectors][kVectorRows], carried from one range of columns to the next
};

template <class W, int kVectors, int kTokens>
[[gnu::noinline]] void float_tile(const FloatTileInput& in) {
  Floats total[kVectors][kTokens];
  const float* x[kTokens];
  Cursor weights[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    weights[v] = in.weights[v];
    for (int t = 0; t < kTokens; ++t)
      total[v][t] = load_aligned(in.totals + (t * kVectors + v) * kVectorRows);
  }
  for (int t = 0; t < kTokens; ++t) x[t] = in.x + t * in.x_stride;
  for (int64_t i = 0; i < in.columns; ++i) {
    Floats w[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      w[v] = W::load(weights[v]);
      weights[v] = weights[v].plus(W::kColumnBytes);
    }
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
      const Floats a = splat(x[t][i]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) total[v][t] = fma(w[v], a, total[v][t]);
    }
  }
  for (int v = 0; v < kVectors; ++v)
    for (int t = 0; t < kTokens; ++t)
      store_aligned(in.totals + (t * kVectors + v) * kVectorRows, total[v][t]);
}

template <int kVectors>
constexpr int kFloatTileTokens = kVectors == 4 ? 1 : 6;
constexpr int64_t kFloatTokenBlock = 96;

template <class W, int kVectors>
void run_float_tiles(FloatTileInput in, int64_t count) {
  const float* x = in.x;
  float* totals = in.totals;
  constexpr int kMaxTokens = kFloatTileTokens<kVectors>;
  const int64_t num_tiles = (count + kMaxTokens - 1) / kMaxTokens;
  for (int64_t i = 0; i < num_tiles; ++i) {
    const int64_t begin = count * i / num_tiles, end = count * (i + 1) / num_tiles;
    in.x = x + begin * in.x_stride;
    in.totals = totals + begin * kVectors * kVectorRows;
    unroll<kMaxTokens>([&](auto index) PLAIT_LAMBDA {
      if (end - begin == index.value + 1) float_tile<W, kVectors, index.value + 1>(in);
    });
  }
}

// Expand is a function (panel cursor, column, count, out), the expand_floats of the format.
template <class Expand>
class FloatLinear {
 public:
  FloatLinear(const LinearCall& call, const float* x, int64_t x_stride, Expand expand)
      : call_(call), panels_(call), x_(x), x_stride_(x_stride), expand_(expand) {
    constexpr size_t kTotals = kFloatTokenBlock * kMaxVectors * kVectorRows;
    totals_ = reinterpret_cast<float*>(
        call.scratch.bytes((kTotals + kMaxVectors * kMaxColumns * kVectorRows) * sizeof(float)));
    weights_ = totals_ + kTotals;
  }

  void run() {
    if (call_.num_rows == 1) return run_vectors<4>(0, 1, 32);
    for (int64_t token = 0; token < call_.num_rows; token += kFloatTokenBlock) {
      const int64_t left = call_.num_rows - token;
      run_vectors<2>(token, left < kFloatTokenBlock ? left : kFloatTokenBlock, kMaxColumns);
    }
  }

 private:
  static constexpr int64_t kMaxColumns = 256;

  template <int kVectors>
  void run_vectors(int64_t token, int64_t count, int64_t columns) {
    const int64_t share = panels_.num_vectors() / kVectors;
    int64_t vectors[kVectors];
    for (int64_t i = 0; i < share; ++i) {
      for (int v = 0; v < kVectors; ++v) vectors[v] = count == 1 ? v * share + i : kVectors * i + v;
      multiply<kVectors>(vectors, token, count, columns);
    }
    for (int64_t i = share * kVectors; i < panels_.num_vectors(); ++i)
      multiply<1>(&i, token, count, columns);
  }

  template <int kVectors>
  void multiply(const int64_t* vectors, int64_t token, int64_t count, int64_t columns) {
    std::memset(totals_, 0, static_cast<size_t>(count) * kVectors * kVectorBytes);
    const int64_t cols = call_.weights.cols();
    FloatTileInput in{{}, nullptr, x_stride_, 0, totals_};
    for (int64_t column = 0; column < cols; column += columns) {
      in.columns = cols - column < columns ? cols - column : columns;
      in.x = x_ + token * x_stride_ + column;
      for (int v = 0; v < kVectors; ++v) {
        float* out = weights_ + v * columns * kVectorRows;
        expand_(panels_.cursor(vectors[v]), column, in.columns, out);
        in.weights[v] = {reinterpret_cast<const uint8_t*>(out), 0};
      }
      run_float_tiles<FloatScratch, kVectors>(in, count);
    }
    for (int64_t t = 0; t < count; ++t)
      for (int v = 0; v < kVectors; ++v)
        emit(call_.out, token + t, panels_.first_row(vectors[v]), panels_.row_end(),
             load_aligned(totals_ + (t * kVectors + v) * kVectorRows));
  }

  const LinearCall& call_;
  const VectorRange panels_;
  const float* x_;
  const int64_t x_stride_;
  const Expand expand_;
  float* totals_;
  float* weights_;
};

}  // namespace

template <class F>
void linear_f32_of(const LinearCall& call, const float* x, int64_t x_stride) {
  FloatLinear(call, x, x_stride, [](Cursor panel, int64_t column, int64_t count, float* out) {
    expand_floats<F>(panel, column, count, out);
  }).run();
}

template <Format kFormat>
void linear_f32_of(const LinearCall& call, const float* x, int64_t x_stride) {
  FloatLinear(call, x, x_stride, [](Cursor panel, int64_t column, int64_t count, float* out) {
    expand_floats<kFormat>(panel, column, count, out);
  }).run();
}

}  // namespace plait::PLAIT_ISA
