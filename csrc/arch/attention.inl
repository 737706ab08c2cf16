// Attention of a few query rows over KV pages; see plait/rows.h. Pages outside, rows inside; each
// row carries (maximum, sum, weighted values). A row's arithmetic never depends on the rows beside
// it.
#pragma once

#include <algorithm>

#include "rows.inl"

namespace plait::PLAIT_ISA {
namespace {

constexpr int kTile = 3;  // query rows walked together: 3 x 4 accumulators fill 16 registers
constexpr int kPageVecs = kPage / kLanes;
constexpr int kConvertFrom = 7;  // from so many rows on, converting an f16 page once pays

// scores[r][t] = q_r . k_t for the page's 32 slots, summed in order of the head's columns.
template <int R, class Kv>
__attribute__((noinline)) void score_tile(const float* const* q, const Kv* k, int head_dim,
                                          float* scores) {
  Vec acc[R][kPageVecs];
  for (auto& row : acc)
    for (Vec& a : row) a = splat(0.0f);
  for (int d = 0; d < head_dim; ++d, k += kPage) {
    Vec b[R];
    for (int r = 0; r < R; ++r) b[r] = splat(q[r][d]);
    for (int j = 0; j < kPageVecs; ++j) {
      const Vec keys = load(k + j * kLanes);
      for (int r = 0; r < R; ++r) acc[r][j] = fma(b[r], keys, acc[r][j]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int j = 0; j < kPageVecs; ++j) store(scores + r * kPage + j * kLanes, acc[r][j]);
}

// out_r = out_r * decay_r + sum over the first `count` slots of weights[r][t] v_t, N vectors of
// columns.
template <int R, int N, class Kv>
__attribute__((noinline)) void value_columns(const float* weights, const Kv* v, int head_dim,
                                             int count, const float* decay, float* const* out,
                                             int column) {
  Vec acc[R][N];
  for (int r = 0; r < R; ++r)
    for (int j = 0; j < N; ++j)
      acc[r][j] = mul(load(out[r] + column + j * kLanes), splat(decay[r]));
  const Kv* row = v + column;
  for (int t = 0; t < count; ++t, row += head_dim) {
    Vec b[R];
    for (int r = 0; r < R; ++r) b[r] = splat(weights[r * kPage + t]);
    for (int j = 0; j < N; ++j) {
      const Vec values = load(row + j * kLanes);
      for (int r = 0; r < R; ++r) acc[r][j] = fma(b[r], values, acc[r][j]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int j = 0; j < N; ++j) store(out[r] + column + j * kLanes, acc[r][j]);
}

template <int R, class Kv>
void value_tile(const float* weights, const Kv* v, int head_dim, int count, const float* decay,
                float* const* out) {
  int column = 0;
  for (; column + 4 * kLanes <= head_dim; column += 4 * kLanes)
    value_columns<R, 4>(weights, v, head_dim, count, decay, out, column);
  for (; column < head_dim; column += kLanes)
    value_columns<R, 1>(weights, v, head_dim, count, decay, out, column);
}

// Slots of the page at `slot` that row r must not see get -inf.
void mask_scores(const AttentionTask& task, int r, int slot, float* scores) {
  for (int t = 0; t < kPage; ++t) {
    const int s = slot + t;
    bool seen = s >= task.low[r] && s < task.high[r];
    if (seen && task.masks != nullptr && task.masks[r] != nullptr && s >= task.mask_start)
      seen = task.masks[r][s - task.mask_start] != 0;
    if (!seen) scores[t] = -kInfinity;
  }
}

bool needs_mask(const AttentionTask& task, int r, int slot) {
  if (task.low[r] > slot || task.high[r] < slot + kPage) return true;
  return task.masks != nullptr && task.masks[r] != nullptr && slot + kPage > task.mask_start;
}

// Turns scores into weights against the row's new maximum and updates (maximum, sum); returns the
// factor by which what the row has so far shrinks.
float soften(float scale, float* scores, float* state) {
  Vec s[kPageVecs];
  for (int j = 0; j < kPageVecs; ++j) s[j] = mul(load(scores + j * kLanes), splat(scale));
  const float page_max = max_lanes(max(max(s[0], s[1]), max(s[2], s[3])));
  if (page_max == -kInfinity) {
    std::memset(scores, 0, kPage * sizeof(float));
    return 1.0f;
  }
  const float old_max = state[0];
  const float new_max = page_max > old_max ? page_max : old_max;
  Vec total = splat(0.0f);
  for (int j = 0; j < kPageVecs; ++j) {
    s[j] = exp(sub(s[j], splat(new_max)));
    store(scores + j * kLanes, s[j]);
    total = add(total, s[j]);
  }
  const float decay = exp_one(old_max - new_max);
  state[0] = new_max;
  state[1] = state[1] * decay + sum_lanes(total);
  return decay;
}

template <int R, class Kv>
void page_tile(const AttentionTask& task, int first_row, int slot, const Kv* k, const Kv* v) {
  float scores[R * kPage];
  float decay[R];
  float* out[R];
  int count = 0;
  for (int r = 0; r < R; ++r) count = std::max(count, task.high[first_row + r] - slot);
  count = std::min(count, kPage);
  if (count <= 0) return;
  score_tile<R>(task.queries + first_row, k, task.head_dim, scores);
  for (int r = 0; r < R; ++r) {
    const int row = first_row + r;
    if (needs_mask(task, row, slot)) mask_scores(task, row, slot, scores + r * kPage);
    decay[r] = soften(task.scale, scores + r * kPage, task.states[row]);
    out[r] = task.states[row] + 2;
  }
  value_tile<R>(scores, v, task.head_dim, count, decay, out);
}

template <class Kv>
void page_rows(const AttentionTask& task, int slot, const Kv* k, const Kv* v) {
  int row = 0;
  for (; row + kTile <= task.num_rows; row += kTile) page_tile<kTile>(task, row, slot, k, v);
  if (task.num_rows - row == 2) page_tile<2>(task, row, slot, k, v);
  if (task.num_rows - row == 1) page_tile<1>(task, row, slot, k, v);
}

void convert_page(const uint16_t* from, int count, float* to) {
  for (int i = 0; i < count; i += kLanes) store(to + i, load(from + i));
}

void attention(const AttentionTask& task) {
  int lowest = task.low[0];
  for (int r = 0; r < task.num_rows; ++r) {
    lowest = std::min(lowest, task.low[r]);
    task.states[r][0] = -kInfinity;
    std::memset(task.states[r] + 1, 0, (1 + task.head_dim) * sizeof(float));
  }
  const int page_floats = kPage * task.head_dim;
  for (int p = 0; p < task.num_pages; ++p) {
    const int slot = task.first_slot + p * kPage;
    if (slot + kPage <= lowest) continue;
    if (task.type == KvType::f32) {
      page_rows(task, slot, static_cast<const float*>(task.k_pages[p]),
                static_cast<const float*>(task.v_pages[p]));
      continue;
    }
    const auto* k = static_cast<const uint16_t*>(task.k_pages[p]);
    const auto* v = static_cast<const uint16_t*>(task.v_pages[p]);
    if (task.num_rows < kConvertFrom) {
      page_rows(task, slot, k, v);
      continue;
    }
    convert_page(k, page_floats, task.page_scratch);
    convert_page(v, page_floats, task.page_scratch + page_floats);
    page_rows<float>(task, slot, task.page_scratch, task.page_scratch + page_floats);
  }
}

void merge_states(float* total, const float* part, int head_dim) {
  if (part[0] == -kInfinity) return;
  const float largest = part[0] > total[0] ? part[0] : total[0];
  const float a = exp_one(total[0] - largest), b = exp_one(part[0] - largest);
  total[0] = largest;
  total[1] = total[1] * a + part[1] * b;
  for (int d = 0; d < head_dim; ++d) total[2 + d] = total[2 + d] * a + part[2 + d] * b;
}

}  // namespace

const RowKernels& row_table() {
  static const RowKernels table{rmsnorm, layernorm, gated,     add_rows,
                                rope,    store_kv,  attention, merge_states};
  return table;
}

}  // namespace plait::PLAIT_ISA
