// One step's ragged batch as flat arrays. The names are those of src/plait/core/window.py.
#pragma once

#include <cstdint>

namespace plait {

constexpr int kPage = 32;  // slots per KV page

enum class Pattern : int32_t { causal = 0, block = 1, full = 2, prefix = 3, tree = 4 };

enum class KvType { f16, f32, int8 };

struct Window {
  int32_t first_row;  // of the batch's flat rows
  int32_t num_rows;
  int32_t start;  // slot of the first row
  int32_t pattern;
  int32_t size;  // length of a block or prefix; full: where the slots end that rows see at least
  int32_t first_page;  // index into Batch::pages; covers slots [0, reach_of(window))
  int32_t first_mask;  // index into Batch::masks of a [num_rows][num_rows] tree mask, or -1
};

// Where the slots end that a window's rows may see.
inline int32_t reach_of(const Window& window) {
  const int32_t end = window.start + window.num_rows;
  const bool beyond = static_cast<Pattern>(window.pattern) == Pattern::full && window.size > end;
  return beyond ? window.size : end;
}

struct Batch {
  int num_rows = 0;
  const int32_t* tokens = nullptr;     // [num_rows]
  const int32_t* positions = nullptr;  // [num_rows], rotary
  int num_windows = 0;
  const Window* windows = nullptr;
  const int32_t* pages = nullptr;
  const uint8_t* masks = nullptr;
  int num_wanted = 0;
  const int32_t* wanted = nullptr;  // flat row numbers, [num_wanted]
  // [num_wanted]: k, when only the k best logits of the row matter (any other may be -inf), 0 when
  // all do; null: all of all rows.
  const int32_t* best = nullptr;
  // [num_wanted]: which columns the row may choose, bit i % 32 of word i / 32, or null for all of
  // them; null: all of all rows. Only the columns that a row may choose count for `best`.
  const uint32_t* const* allowed = nullptr;
  const float* embeddings = nullptr;  // rows fed instead of token embeddings
  const int32_t* embedding_rows =
      nullptr;                    // [num_rows]: row of `embeddings`, or -1 for the token's
  const float* hidden = nullptr;  // [num_rows][width of the cut]: where a later layer starts from
  void* kv = nullptr;             // [page][layer][kv head]{K, V}; see rows.h
  float* out = nullptr;           // result rows
};

}  // namespace plait
