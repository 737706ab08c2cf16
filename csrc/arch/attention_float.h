// Attention tiles over float pages: K [head_dim][32], V [32][head_dim], as f32 or f16. A tile is R
// query rows against N vectors of slots (or of columns): 12 accumulators fill the register file,
// and converting f16 on the way hides behind the multiply-adds. Every row sums in the same order
// whatever the tile.
#pragma once

#include "rows.inl"

namespace plait::PLAIT_ISA {
namespace {

constexpr int kTileRows = 6;
constexpr int kPageVecs = kPage / kLanes;
// Float pages between two looks at a row's state.
constexpr int kPagesAtOnce = 2;

template <int R>
constexpr int kTileVecs = R <= 3 ? 4 : 2;

// A place of a page to come, into the second cache: only few lines can be on their way to the first
// one at once, too few to cover what memory takes to answer (a walk over cold pages was 1.3 to 1.6
// times as fast, measured).
template <class Kv>
inline void fetch(const Kv* ahead) {
  __builtin_prefetch(ahead, 0, 2);
}

// acc[r][j] += left[r] * right[j], with the smaller of both sides held in registers.
template <int R, int N, class Left, class Right>
inline __attribute__((always_inline)) void outer(Vec (&acc)[R][N], Left left, Right right) {
  if constexpr (R < N) {
    Vec held[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) held[r] = left(r);
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) {
      const Vec other = right(j);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) acc[r][j] = fma(held[r], other, acc[r][j]);
    }
  } else {
    Vec held[N];
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) held[j] = right(j);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vec other = left(r);
#pragma GCC unroll 8
      for (int j = 0; j < N; ++j) acc[r][j] = fma(other, held[j], acc[r][j]);
    }
  }
}

// scores[r][t] = q_r . k_t for 8 N slots, summed in order of the head's columns.
template <int R, int N, class Kv>
__attribute__((noinline)) void score_slots(const float* const* q, const Kv* k, int head_dim,
                                           const Kv* ahead, float* scores) {
  Vec acc[R][N];
#pragma GCC unroll 8
  for (auto& row : acc)
#pragma GCC unroll 8
    for (Vec& a : row) a = splat(0.0f);
  const float* query[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) query[r] = q[r];
  for (int d = 0; d < head_dim; ++d, k += kPage) {
    fetch(ahead + d * kPage);
    outer<R, N>(
        acc, [&](int r) { return splat(query[r][d]); },
        [&](int j) { return load(k + j * kLanes); });
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) store(scores + r * kPage + j * kLanes, acc[r][j]);
}

// Scores of the page's first `count` slots; those behind may be left as they are.
template <int R, class Kv>
void score_tile(const float* const* q, const Kv* k, int head_dim, int count, const Kv* ahead,
                float* scores) {
  constexpr int kStep = kTileVecs<R> * kLanes;
  for (int t = 0; t < count; t += kStep)
    score_slots<R, kTileVecs<R>>(q, k + t, head_dim, ahead + t, scores + t);
}

// A page's values, and what the rows of a tile made of its scores.
template <class Kv>
struct ValuePage {
  const Kv* v;
  const Kv* ahead;
  const float* weights;  // [R][kPage]
  const float* decay;    // [R]
  int count;             // slots from here on have weight 0
};

// out_r = out_r * decay_r + sum over the slots of weights[r][t] v_t, page after page, for 8 N
// columns.
template <int R, int N, class Kv>
__attribute__((noinline)) void value_columns(const ValuePage<Kv>* pages, int num_pages,
                                             int head_dim, float* const* out, int column) {
  Vec acc[R][N];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) acc[r][j] = load(out[r] + column + j * kLanes);
  for (const ValuePage<Kv>* page = pages; page < pages + num_pages; ++page) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int j = 0; j < N; ++j) acc[r][j] = mul(acc[r][j], splat(page->decay[r]));
    const Kv* v = page->v + column;
    const Kv* ahead = page->ahead + column;
    const float* weights = page->weights;
    for (int t = 0; t < page->count; ++t, v += head_dim, ahead += head_dim) {
      fetch(ahead);
      outer<R, N>(
          acc, [&](int r) { return splat(weights[r * kPage + t]); },
          [&](int j) { return load(v + j * kLanes); });
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j) store(out[r] + column + j * kLanes, acc[r][j]);
}

template <int R, class Kv>
void value_tile(const ValuePage<Kv>* pages, int num_pages, int head_dim, float* const* out) {
  constexpr int kVecs = kTileVecs<R>;
  int column = 0;
  for (; column + kVecs * kLanes <= head_dim; column += kVecs * kLanes)
    value_columns<R, kVecs>(pages, num_pages, head_dim, out, column);
  for (; column < head_dim; column += kLanes)
    value_columns<R, 1>(pages, num_pages, head_dim, out, column);
}

}  // namespace
}  // namespace plait::PLAIT_ISA
