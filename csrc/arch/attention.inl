// Attention of query rows over KV pages; see plait/rows.h. Pages outside, rows inside; each row
// carries (weighted values, maximum, sum). A row's arithmetic never depends on the rows beside it.
#pragma once

#include <algorithm>
#include <type_traits>

#include "attention_int8.h"

namespace plait::PLAIT_ISA {
namespace {

constexpr float kLowest = std::numeric_limits<float>::lowest();

// Slots of the page at `slot` that row r must not see get -inf.
void mask_scores(const AttentionTask& task, int r, int slot, float* scores) {
  const uint8_t* mask = task.masks[r];
  for (int t = 0; t < kPage; ++t) {
    const int s = slot + t;
    bool seen = s >= task.low[r] && s < task.high[r];
    if (seen && mask != nullptr && s >= task.mask_starts[r])
      seen = mask[s - task.mask_starts[r]] != 0;
    if (!seen) scores[t] = -kInfinity;
  }
}

bool needs_mask(const AttentionTask& task, int r, int slot) {
  if (task.low[r] > slot || task.high[r] < slot + kPage) return true;
  return task.masks[r] != nullptr && slot + kPage > task.mask_starts[r];
}

// Turns scores into weights against each row's new maximum and updates (maximum, sum) in `ends`;
// decay[r] becomes the factor by which what the row has so far shrinks. Three loops, for each row
// is one long chain of dependent operations: within one loop the next row's would not begin before
// the last one's is through.
template <int R>
__attribute__((noinline)) void soften(const float* scales, float* scores, float* const* ends,
                                      float* decay) {
  float base[R], change[kLanes] = {};
  Vec total[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    float* row = scores + r * kPage;
    Vec s[kPageVecs];
    for (int j = 0; j < kPageVecs; ++j) {
      s[j] = mul(load(row + j * kLanes), splat(scales[r]));
      store(row + j * kLanes, s[j]);
    }
    const float page_max = max_lanes(max(max(s[0], s[1]), max(s[2], s[3])));
    const float old_max = ends[r][0];
    // In vectors, for a branch here would often be guessed wrong. While a row has seen nothing its
    // maximum is -inf, and 0 in its place makes all weights 0.
    const Vec new_max = max(splat(page_max), splat(old_max));
    base[r] = first_lane(keep_where_at_least(new_max, splat(kLowest), new_max));
    change[r] = old_max - base[r];
    ends[r][0] = first_lane(new_max);
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    float* row = scores + r * kPage;
    total[r] = splat(0.0f);
    for (int j = 0; j < kPageVecs; ++j) {
      const Vec weight = exp(sub(load(row + j * kLanes), splat(base[r])));
      store(row + j * kLanes, weight);
      total[r] = add(total[r], weight);
    }
  }
  store(decay, exp(load(change)));
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) ends[r][1] = ends[r][1] * decay[r] + sum_lanes(total[r]);
}

// The unified form (FlashDecoding++, arXiv:2311.01282 section 3): weights against a maximum that is
// known beforehand. Nothing is compared and nothing rescaled, so no page waits for the one before.
// Whether the sums stayed in range is looked at once, when they are complete (is_in_range).
template <int R>
__attribute__((noinline)) void soften_unified(const float* scales, const float* maxima,
                                              float* scores, float* const* ends) {
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    float* row = scores + r * kPage;
    const Vec scale = splat(scales[r]), base = splat(-maxima[r]);
    Vec total = splat(0.0f);
    for (int j = 0; j < kPageVecs; ++j) {
      const Vec weight = exp(fma(load(row + j * kLanes), scale, base));
      store(row + j * kLanes, weight);
      total = add(total, weight);
    }
    ends[r][0] = maxima[r];
    ends[r][1] += sum_lanes(total);
  }
}

// One page's place in the task, and where the next page lies. kIsLong: many rows work on it.
template <class Kv, bool kIsLong>
struct Page {
  int slot;
  const Kv *k, *v;
  const Kv *next_k, *next_v;
};

// What the rows of a task need besides, one entry each.
struct RowScratch {
  const int16_t* queries;  // int8 pages only
  const float* scales;
};

template <int R, class Kv, bool kIsLong>
void page_tile(const AttentionTask& task, const RowScratch& rows, int first,
               const Page<Kv, kIsLong>& page) {
  int low = task.low[first], high = task.high[first];
  for (int r = 1; r < R; ++r) {
    low = std::min(low, task.low[first + r]);
    high = std::max(high, task.high[first + r]);
  }
  if (low >= page.slot + kPage || high <= page.slot) return;
  const int count = std::min(high - page.slot, kPage);
  float scores[R * kPage];
  float decay[kLanes];
  float *out[R], *ends[R];
  for (int r = 0; r < R; ++r) {
    out[r] = task.states[first + r];
    ends[r] = out[r] + task.head_dim;
  }
  constexpr bool kIsInt8 = std::is_same_v<Kv, int8_t>;
  if constexpr (kIsInt8)
    score_tile_int8<R>(rows.queries + first * task.head_dim, page.k, task.head_dim, count,
                       page.next_k, scores);
  else
    score_tile<R>(task.queries + first, page.k, task.head_dim, count,
                  Ahead<Kv, kIsLong>{page.next_k}, scores);
  for (int r = 0; r < R; ++r)
    if (needs_mask(task, first + r, page.slot))
      mask_scores(task, first + r, page.slot, scores + r * kPage);
  if (task.maxima != nullptr) {
    soften_unified<R>(rows.scales + first, task.maxima + first, scores, ends);
    store(decay, splat(1.0f));
  } else {
    soften<R>(rows.scales + first, scores, ends, decay);
  }
  if constexpr (kIsInt8)
    value_tile_int8<R>(scores, page.v, task.head_dim, count, decay, page.next_v, out);
  else
    value_tile<R>(scores, page.v, task.head_dim, count, decay, Ahead<Kv, kIsLong>{page.next_v},
                  out);
}

template <class Kv, bool kIsLong>
void page_rows(const AttentionTask& task, const RowScratch& rows, const Page<Kv, kIsLong>& page) {
  const int tiles = (task.num_rows + kTileRows - 1) / kTileRows;
  for (int i = 0; i < tiles; ++i) {
    const int first = task.num_rows * i / tiles, count = task.num_rows * (i + 1) / tiles - first;
    switch (count) {
      case 1:
        page_tile<1>(task, rows, first, page);
        break;
      case 2:
        page_tile<2>(task, rows, first, page);
        break;
      case 3:
        page_tile<3>(task, rows, first, page);
        break;
      case 4:
        page_tile<4>(task, rows, first, page);
        break;
      case 5:
        page_tile<5>(task, rows, first, page);
        break;
      default:
        page_tile<6>(task, rows, first, page);
    }
  }
}

template <class Kv, bool kIsLong>
void walk_pages(const AttentionTask& task, const RowScratch& rows) {
  const int lowest = *std::min_element(task.low, task.low + task.num_rows);
  const int highest = *std::max_element(task.high, task.high + task.num_rows);
  for (int p = 0; p < task.num_pages; ++p) {
    const bool is_last = p + 1 == task.num_pages;
    const Page<Kv, kIsLong> page{
        task.first_slot + p * kPage, static_cast<const Kv*>(task.k_pages[p]),
        static_cast<const Kv*>(task.v_pages[p]),
        static_cast<const Kv*>(is_last ? task.next_k : task.k_pages[p + 1]),
        static_cast<const Kv*>(is_last ? task.next_v : task.v_pages[p + 1])};
    if (page.slot + kPage <= lowest || page.slot >= highest) continue;
    page_rows(task, rows, page);
  }
}

template <class Kv>
void walk(const AttentionTask& task, const RowScratch& rows) {
  if (task.num_rows > 2 * kTileRows)
    walk_pages<Kv, true>(task, rows);
  else
    walk_pages<Kv, false>(task, rows);
}

void attention(const AttentionTask& task) {
  float scales[kMostAttentionRows];
  auto* queries = reinterpret_cast<int16_t*>(task.scratch);
  for (int r = 0; r < task.num_rows; ++r) {
    scales[r] = task.scale;
    if (task.type == KvType::int8)
      scales[r] *= quantize_query(task.queries[r], task.head_dim, queries + r * task.head_dim);
  }
  const RowScratch rows{queries, scales};
  if (task.type == KvType::f32) walk<float>(task, rows);
  if (task.type == KvType::f16) walk<uint16_t>(task, rows);
  if (task.type == KvType::int8) walk_pages<int8_t, false>(task, rows);  // one way to fetch ahead
}

// Joining what saw nothing changes nothing, in either direction.
void merge_states(float* total, const float* part, int head_dim) {
  float* ends = total + head_dim;
  const float* part_ends = part + head_dim;
  if (part_ends[0] == -kInfinity) return;
  if (ends[0] == -kInfinity) {
    std::memcpy(total, part, (head_dim + 2) * sizeof(float));
    return;
  }
  const float largest = part_ends[0] > ends[0] ? part_ends[0] : ends[0];
  const float a = exp_one(ends[0] - largest), b = exp_one(part_ends[0] - largest);
  ends[0] = largest;
  ends[1] = ends[1] * a + part_ends[1] * b;
  for (int d = 0; d < head_dim; ++d) total[d] = total[d] * a + part[d] * b;
}

}  // namespace

const RowKernels& row_table() {
  static const RowKernels table{rmsnorm, layernorm, gated,     add_rows,
                                rope,    store_kv,  attention, merge_states};
  return table;
}

}  // namespace plait::PLAIT_ISA
