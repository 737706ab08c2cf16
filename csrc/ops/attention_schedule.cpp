#include "attention_schedule.h"

#include <algorithm>
#include <limits>

#include "plait/rows.h"

namespace plait {
namespace {

int ceil_div(int a, int b) {
  return (a + b - 1) / b;
}

// Pages of a window.
struct ChunkPages {
  const int32_t* begin;
  const int32_t* end;
};

ChunkPages pages_from(const Batch& batch, int window, int chunk) {
  const Window& w = batch.windows[window];
  const int32_t* pages = batch.pages + w.first_page;
  return {pages + chunk * kChunkPages, pages + pages_of(w)};
}

// Those of one chunk.
ChunkPages chunk_pages(const Batch& batch, int window, int chunk) {
  const ChunkPages pages = pages_from(batch, window, chunk);
  return {pages.begin, std::min(pages.end, pages.begin + kChunkPages)};
}

}  // namespace

AttentionSchedule::AttentionSchedule(int window, int group, int num_kv_heads, int num_workers)
    : window_(window),
      group_(group),
      num_kv_heads_(num_kv_heads),
      num_workers_(num_workers),
      rows_per_unit_(std::max(1, kMostAttentionRows / group)) {}

void AttentionSchedule::prepare(const Batch& batch, const int32_t* limits, int64_t run) {
  if (run == run_) return;
  run_ = run;
  members_.clear();
  units_.clear();
  folded_.clear();
  narrow_.clear();
  num_states_ = 0;
  num_chunks_ = 0;
  read_rows(batch, limits);
  // Backwards, so that the units with the longest context come first and the last ones are short.
  for (int w = batch.num_windows - 1; w >= 0; --w)
    if (has_many_rows(batch.windows[w]))
      cut_by_rows(batch, &w, 1);
    else
      narrow_.push_back(w);
  sort_by_pages(batch);
  if (is_even(batch))
    for (size_t begin = 0, end; begin < narrow_.size(); begin = end) {
      end = group_end(batch, begin);
      cut_by_rows(batch, &narrow_[begin], end - begin);
    }
  else
    cut_by_chunks(batch);
}

bool AttentionSchedule::has_many_rows(const Window& window) const {
  return ceil_div(window.num_rows, rows_per_unit_) * num_kv_heads_ >= 4 * num_workers_;
}

void AttentionSchedule::read_rows(const Batch& batch, const int32_t* limits) {
  rows_.resize(batch.num_rows);
  for (int w = 0; w < batch.num_windows; ++w) {
    const int begin = batch.windows[w].first_row, end = begin + batch.windows[w].num_rows;
    int lowest = std::numeric_limits<int>::max(), highest = 0;
    for (int i = begin; i < end; ++i) {
      const int low = window_ == 0 ? 0 : std::max(0, batch.positions[i] - window_ + 1);
      rows_[i] = {w, low, limits[i], 0, 0, 0};
      lowest = std::min(lowest, low);
      highest = std::max(highest, limits[i]);
    }
    const int first_chunk = std::min(lowest, highest - 1) / kChunkSlots;
    for (int i = begin; i < end; ++i) {
      rows_[i].first_chunk = first_chunk;
      rows_[i].num_chunks = ceil_div(highest, kChunkSlots) - first_chunk;
    }
  }
}

// By the chunk that they begin with, then by the pages from there on.
void AttentionSchedule::sort_by_pages(const Batch& batch) {
  std::sort(narrow_.begin(), narrow_.end(), [&](int a, int b) {
    const int x = first_row(batch, a).first_chunk, y = first_row(batch, b).first_chunk;
    if (x != y) return x < y;
    const ChunkPages p = pages_from(batch, a, x), q = pages_from(batch, b, x);
    return std::lexicographical_compare(p.begin, p.end, q.begin, q.end);
  });
}

// The end of those of the narrow windows that begin alike.
size_t AttentionSchedule::group_end(const Batch& batch, size_t begin) const {
  const int chunk = first_row(batch, narrow_[begin]).first_chunk;
  const int32_t page = *pages_from(batch, narrow_[begin], chunk).begin;
  size_t end = begin + 1;
  while (end < narrow_.size() && first_row(batch, narrow_[end]).first_chunk == chunk &&
         *pages_from(batch, narrow_[end], chunk).begin == page)
    ++end;
  return end;
}

// Whether units of whole rows keep all workers busy almost to the end: are a group's, on average,
// small enough?
bool AttentionSchedule::is_even(const Batch& batch) const {
  int64_t all = 0, largest = 0;
  for (size_t begin = 0, end; begin < narrow_.size(); begin = end) {
    end = group_end(batch, begin);
    int64_t work = 0;
    int rows = 0;
    for (size_t i = begin; i < end; ++i) {
      const int count = batch.windows[narrow_[i]].num_rows;
      rows += count;
      work += static_cast<int64_t>(count) * first_row(batch, narrow_[i]).num_chunks;
    }
    all += work * num_kv_heads_;
    largest = std::max(largest, work / ceil_div(rows, rows_per_unit_));
  }
  return largest * 4 * num_workers_ <= all;
}

// All rows of some windows that begin alike; a unit folds the chunks of its rows.
void AttentionSchedule::cut_by_rows(const Batch& batch, const int* windows, size_t count) {
  const int first = static_cast<int>(members_.size());
  for (size_t i = 0; i < count; ++i) add_members(batch.windows[windows[i]]);
  const int rows = static_cast<int>(members_.size()) - first;
  for (int end = rows, begin; end > 0; end = begin) {
    begin = (end - 1) / rows_per_unit_ * rows_per_unit_;
    int low = std::numeric_limits<int>::max(), high = 1;
    for (int i = first + begin; i < first + end; ++i) {
      low = std::min(low, static_cast<int>(rows_[members_[i]].low));
      high = std::max(high, static_cast<int>(rows_[members_[i]].high));
    }
    const int first_chunk = std::min(low, high - 1) / kChunkSlots;
    const int num_chunks = ceil_div(high, kChunkSlots) - first_chunk;
    for (int h = 0; h < num_kv_heads_; ++h)
      units_.push_back({h, first + begin, end - begin, first_chunk, num_chunks, true});
  }
}

void AttentionSchedule::add_members(const Window& window) {
  for (int i = 0; i < window.num_rows; ++i) members_.push_back(window.first_row + i);
}

const AttentionRow& AttentionSchedule::first_row(const Batch& batch, int window) const {
  return rows_[batch.windows[window].first_row];
}

void AttentionSchedule::cut_by_chunks(const Batch& batch) {
  int first_chunk = std::numeric_limits<int>::max(), end_chunk = 0;
  bool folds = true;
  for (int w : narrow_) {
    const AttentionRow& row = first_row(batch, w);
    first_chunk = std::min(first_chunk, row.first_chunk);
    end_chunk = std::max(end_chunk, row.first_chunk + row.num_chunks);
    folds = folds && row.num_chunks == 1;
  }
  num_chunks_ = end_chunk - first_chunk;
  if (!folds) place_states(batch);
  for (int chunk = first_chunk; chunk < end_chunk; ++chunk) {
    sharing_.clear();
    for (int w : narrow_) {
      const AttentionRow& row = first_row(batch, w);
      if (chunk >= row.first_chunk && chunk < row.first_chunk + row.num_chunks)
        sharing_.push_back(w);
    }
    std::sort(sharing_.begin(), sharing_.end(), [&](int a, int b) {
      const ChunkPages x = chunk_pages(batch, a, chunk), y = chunk_pages(batch, b, chunk);
      return std::lexicographical_compare(x.begin, x.end, y.begin, y.end);
    });
    for (size_t begin = 0, end; begin < sharing_.size(); begin = end) {
      const int32_t page = *chunk_pages(batch, sharing_[begin], chunk).begin;
      for (end = begin + 1; end < sharing_.size(); ++end)
        if (*chunk_pages(batch, sharing_[end], chunk).begin != page) break;
      add_group(batch, &sharing_[begin], static_cast<int>(end - begin), chunk, folds);
    }
  }
}

void AttentionSchedule::place_states(const Batch& batch) {
  for (int w : narrow_) {
    const Window& window = batch.windows[w];
    for (int i = window.first_row; i < window.first_row + window.num_rows; ++i) {
      rows_[i].state = num_states_;
      num_states_ += static_cast<int64_t>(rows_[i].num_chunks) * num_kv_heads_ * group_;
      folded_.push_back(i);
    }
  }
}

// Cost: a unit reads its pages once and works on each of its rows, so the rows of a group stay
// together as far as a unit holds them, unless a worker would have nothing to do.
void AttentionSchedule::add_group(const Batch& batch, const int* windows, int count, int chunk,
                                  bool folds) {
  const int first = static_cast<int>(members_.size());
  for (int i = 0; i < count; ++i) add_members(batch.windows[windows[i]]);
  const int rows = static_cast<int>(members_.size()) - first;
  const int busy = ceil_div(num_workers_, num_kv_heads_ * num_chunks_);
  const int parts = std::max(ceil_div(rows, rows_per_unit_), std::min(rows, busy));
  for (int part = 0; part < parts; ++part) {
    const int begin = rows * part / parts, end = rows * (part + 1) / parts;
    for (int h = 0; h < num_kv_heads_; ++h)
      units_.push_back({h, first + begin, end - begin, chunk, 1, folds});
  }
}

}  // namespace plait
