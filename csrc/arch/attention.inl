// Attention of query rows over KV pages; see plait/rows.h. Tiles of rows outside, pages inside;
// each row carries (weighted values, maximum, sum). A row's arithmetic never depends on the rows
// beside it.
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
    const float* row = scores + r * kPage;
    Vec s[kPageVecs];
    for (int j = 0; j < kPageVecs; ++j) s[j] = mul(load(row + j * kLanes), splat(scales[r]));
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
    const Vec scale = splat(scales[r]), below = splat(-base[r]);
    total[r] = splat(0.0f);
    for (int j = 0; j < kPageVecs; ++j) {
      const Vec weight = exp(fma(load(row + j * kLanes), scale, below));
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

// One page's place in the task, and the page to fetch meanwhile.
template <class Kv>
struct Page {
  int slot;
  const Kv *k, *v;
  const Kv *ahead_k, *ahead_v;
};

// What the rows of a task need besides, one entry each.
struct RowScratch {
  const int16_t* queries;  // int8 pages only
  const float* scales;
};

// A task's rows are cut into tiles; a tile goes over all pages, so that its queries and states stay
// in the first cache, where those of many rows would have no room, while the pages wait in the
// second.
struct TileOf {
  int index, of;
  int first;  // row
};

// The page to fetch while a tile works on page p. The first tile fetches those of the task to come,
// the others share out the pages that are likely to be attended next; so does a tile without
// others, at its end. The page at work stands for none.
template <class Kv>
Page<Kv> page_at(const AttentionTask& task, const TileOf& tile, int p) {
  const void *k = task.k_pages[p], *v = task.v_pages[p];
  const void *ahead_k = k, *ahead_v = v;
  const int turns = std::max(1, tile.of - 1);
  const int turn = tile.of == 1 ? p + std::min(kPagesAtOnce, task.num_pages) - task.num_pages
                                : (tile.index - 1) * task.num_pages + p;
  if (tile.index == 0 && p + kPagesAtOnce < task.num_pages)
    ahead_k = task.k_pages[p + kPagesAtOnce], ahead_v = task.v_pages[p + kPagesAtOnce];
  else if (turn >= 0 && turn % turns == 0 && turn / turns < task.num_next)
    ahead_k = task.next_k_pages[turn / turns], ahead_v = task.next_v_pages[turn / turns];
  return {task.first_slot + p * kPage, static_cast<const Kv*>(k), static_cast<const Kv*>(v),
          static_cast<const Kv*>(ahead_k), static_cast<const Kv*>(ahead_v)};
}

// Carries R rows on over `num_pages` pages, of which they see all or some slots.
template <int R, class Kv>
void page_tile(const AttentionTask& task, const RowScratch& rows, int first, int high,
               const Page<Kv>* pages, int num_pages) {
  float scores[kPagesAtOnce][R * kPage];
  float decay[kPagesAtOnce][kLanes];
  ValuePage<Kv> values[kPagesAtOnce];
  float *out[R], *ends[R];
  for (int r = 0; r < R; ++r) {
    out[r] = task.states[first + r];
    ends[r] = out[r] + task.head_dim;
  }
  for (int i = 0; i < num_pages; ++i) {
    const Page<Kv>& page = pages[i];
    const int count = std::min(high - page.slot, kPage);
    values[i] = {page.v, page.ahead_v, scores[i], decay[i], count};
    if constexpr (std::is_same_v<Kv, int8_t>)
      score_tile_int8<R>(rows.queries + first * task.head_dim, page.k, task.head_dim, count,
                         page.ahead_k, scores[i]);
    else
      score_tile<R>(task.queries + first, page.k, task.head_dim, count, page.ahead_k, scores[i]);
    for (int r = 0; r < R; ++r)
      if (needs_mask(task, first + r, page.slot))
        mask_scores(task, first + r, page.slot, scores[i] + r * kPage);
    if (task.maxima != nullptr) {
      soften_unified<R>(rows.scales + first, task.maxima + first, scores[i], ends);
      store(decay[i], splat(1.0f));
    } else {
      soften<R>(rows.scales + first, scores[i], ends, decay[i]);
    }
  }
  if constexpr (std::is_same_v<Kv, int8_t>)
    for (int i = 0; i < num_pages; ++i) value_tile_int8<R>(values[i], task.head_dim, out);
  else
    value_tile<R>(values, num_pages, task.head_dim, out);
}

template <int R, class Kv>
void walk_pages(const AttentionTask& task, const RowScratch& rows, const TileOf& tile) {
  const int first = tile.first;
  const int low = *std::min_element(task.low + first, task.low + first + R) - task.first_slot;
  const int high = *std::max_element(task.high + first, task.high + first + R);
  const int behind = high - task.first_slot;  // may lie anywhere
  const int end = behind <= 0 ? 0 : std::min(task.num_pages, (behind + kPage - 1) / kPage);
  for (int p = std::max(0, low) / kPage; p < end; p += kPagesAtOnce) {
    Page<Kv> pages[kPagesAtOnce];
    const int count = std::min(kPagesAtOnce, end - p);
    for (int i = 0; i < count; ++i) pages[i] = page_at<Kv>(task, tile, p + i);
    page_tile<R>(task, rows, first, high, pages, count);
  }
}

template <class Kv>
void walk(const AttentionTask& task, const RowScratch& rows) {
  const int tiles = (task.num_rows + kTileRows - 1) / kTileRows;
  for (int i = 0; i < tiles; ++i) {
    const int first = task.num_rows * i / tiles, count = task.num_rows * (i + 1) / tiles - first;
    const TileOf tile{i, tiles, first};
    switch (count) {
      case 1:
        walk_pages<1, Kv>(task, rows, tile);
        break;
      case 2:
        walk_pages<2, Kv>(task, rows, tile);
        break;
      case 3:
        walk_pages<3, Kv>(task, rows, tile);
        break;
      case 4:
        walk_pages<4, Kv>(task, rows, tile);
        break;
      case 5:
        walk_pages<5, Kv>(task, rows, tile);
        break;
      default:
        walk_pages<6, Kv>(task, rows, tile);
    }
  }
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
  if (task.type == KvType::int8) walk<int8_t>(task, rows);
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
