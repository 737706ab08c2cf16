// How one step's attention is cut into units of work, made once per step for all layers alike.
//
// The slots of a sequence are cut into chunks of kChunkPages pages. A row's result is a fold over
// its chunks in order, each computed from a fresh state over its pages in order: nothing else
// enters, so threads, neighbours and sharing change no bit.
//
// A window with many rows is cut by rows, and a unit folds its own chunks. So are the other windows
// where that gives enough units of about the same work, those together that begin with the same
// page. Else they are cut by chunk, and those whose page tables begin a chunk with the same page
// lie in one unit, so that a page of a shared prefix is read once for all of them.
#pragma once

#include <cstddef>
#include <vector>

#include "plait/batch.h"

namespace plait {

constexpr int kChunkPages = 8;
constexpr int kChunkSlots = kChunkPages * kPage;

// Members [first, first + count), all query heads of one KV head, over some chunks.
struct AttentionUnit {
  int kv_head;
  int first;
  int count;
  int first_chunk;
  int num_chunks;
  bool folds;  // ends with the rows' results; else leaves one state per row and chunk
};

struct AttentionRow {
  int window;
  int32_t low;  // sees slots [low, high)
  int32_t high;
  int first_chunk;
  int num_chunks;
  int64_t state;  // number of the row's first state, when its chunks are folded afterwards
};

class AttentionSchedule {
 public:
  // window: of slots that a row looks back over, 0 for all. group: query heads per KV head.
  AttentionSchedule(int window, int group, int num_kv_heads, int num_workers);

  // Cuts a batch, unless this was done in the same run. limits: where the slots a row sees end.
  void prepare(const Batch& batch, const int32_t* limits, int64_t run);

  const std::vector<AttentionUnit>& units() const { return units_; }
  // Flat row numbers; the rows of a unit lie together, ordered by their pages.
  const std::vector<int32_t>& members() const { return members_; }
  const AttentionRow& row(int32_t flat) const { return rows_[flat]; }
  // Rows to fold after all units are done, and the states that they need.
  const std::vector<int32_t>& folded() const { return folded_; }
  int64_t num_states() const { return num_states_; }
  bool is_for(int window, int group) const { return window_ == window && group_ == group; }

 private:
  void read_rows(const Batch& batch, const int32_t* limits);
  void sort_by_pages(const Batch& batch);
  size_t group_end(const Batch& batch, size_t begin) const;
  bool is_even(const Batch& batch) const;
  void cut_by_rows(const Batch& batch, const int* windows, size_t count);
  void add_members(const Window& window);
  const AttentionRow& first_row(const Batch& batch, int window) const;
  void cut_by_chunks(const Batch& batch);
  void add_group(const Batch& batch, const int* windows, int count, int chunk, bool folds);
  bool has_many_rows(const Window& window) const;
  void place_states(const Batch& batch);

  int window_;
  int group_;
  int num_kv_heads_;
  int num_workers_;
  int rows_per_unit_;
  int64_t run_ = 0;
  std::vector<AttentionRow> rows_;
  std::vector<int> narrow_;  // windows with few rows
  std::vector<int> sharing_;
  std::vector<int32_t> members_;
  std::vector<AttentionUnit> units_;
  std::vector<int32_t> folded_;
  int64_t num_states_ = 0;
  int num_chunks_ = 0;  // of the narrow windows
};

// Pages that hold the slots a window sees.
inline int pages_of(const Window& window) {
  return (reach_of(window) + kPage - 1) / kPage;
}

}  // namespace plait
