// Kernels that work on one row of floats, and attention over pages: one table per instruction set.
// Every table gives the same bits: 8 lanes, the same order, fused multiply-adds where written.
#pragma once

#include <cstdint>

#include "plait/batch.h"
#include "plait/cpu.h"

namespace plait {

enum class Activation { silu, gelu, gelu_tanh };

constexpr int kMaxHeadDim = 512;
constexpr int kMostAttentionRows = 48;

// A row's state while it attends: head_dim weighted values, the maximum, the sum; padded so that
// states one after the other stay aligned.
constexpr int state_floats(int head_dim) {
  return head_dim + 8;
}

// Bytes of one head's keys, or values, in one page. int8 pages end with one float scale per slot.
constexpr int page_part_bytes(KvType type, int head_dim) {
  if (type == KvType::int8) return kPage * (head_dim + static_cast<int>(sizeof(float)));
  return kPage * head_dim * (type == KvType::f32 ? 4 : 2);
}

// Rows of one KV head's queries against a run of pages. All arrays have num_rows entries.
struct AttentionTask {
  // [num_pages]; f32 and f16: K [head_dim][32], V [32][head_dim]; int8: see store_kv.
  const void* const* k_pages;
  const void* const* v_pages;
  int num_pages;
  // [num_next]: the pages that are likely to be attended next: fetched, not used.
  const void* const* next_k_pages;
  const void* const* next_v_pages;
  int num_next;
  int first_slot;  // slot of the first page's first entry
  KvType type;
  int head_dim;  // multiple of 8, at most kMaxHeadDim
  float scale;
  int num_rows;  // at most kMostAttentionRows
  const float* const* queries;
  const int32_t* low;  // row sees slots [low, high) ...
  const int32_t* high;
  const uint8_t* const* masks;  // ... and, where not null, of the slots from mask_starts on only
  const int32_t* mask_starts;   // those that are set
  float* const* states;         // [state_floats(head_dim)] each
  float* scratch;               // [2 * 32 * head_dim]
  // Where not null, the unified form: a row's weights are exp(score - maxima[row]) instead of
  // against the largest score so far.
  const float* maxima = nullptr;
};

// Whether a row's sum of weights in the unified form is worth believing, over as many slots as a
// state is carried along: neither near overflow, nor made of weights that were rounded to 0.
constexpr bool is_in_range(float sum) {
  return sum >= 0x1p-58f && sum <= 0x1p58f;
}

struct RowKernels {
  // out = x / sqrt(mean(x^2) + eps) * weight (+ residual when not null); out may be x.
  void (*rmsnorm)(const float* x, const float* weight, float eps, int64_t n, const float* residual,
                  float* out);
  // out = (x - mean) / sqrt(variance + eps) * weight + bias (bias may be null).
  void (*layernorm)(const float* x, const float* weight, const float* bias, float eps, int64_t n,
                    float* out);
  // out = activation(gate) * up; out may be gate.
  void (*gated)(Activation activation, const float* gate, const float* up, int64_t n, float* out);
  // out = alpha * x + y; out may be y.
  void (*add)(const float* x, const float* y, float alpha, int64_t n, float* out);
  // Rotates the first 2 * pairs columns of each head in place; table: cos[pairs], sin[pairs].
  void (*rope)(float* x, int heads, int head_dim, int pairs, bool interleaved, const float* table);
  // Stores one slot's key and value of one head into its page. int8: K, rotated by a Hadamard
  // matrix, [head_dim / 2][32][2] and V [16][head_dim][2] (pairs of columns, pairs of slots), each
  // followed by 32 float scales: an element is its integer in [-127, 127] times its slot's scale.
  void (*store_kv)(const float* k, const float* v, int head_dim, int slot_in_page, KvType type,
                   void* k_page, void* v_page);
  // Carries the states on over the task's pages in order, one rescale per page, or none in the
  // unified form. A fresh state is zeros with maximum -inf, and stays so while the row sees no
  // slot; in the unified form it may get the maximum.
  void (*attention)(const AttentionTask& task);
  // total = total joined with part, both states.
  void (*merge_states)(float* total, const float* part, int head_dim);
};

const RowKernels& row_kernels(Isa isa);

}  // namespace plait
