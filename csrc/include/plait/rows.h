// Kernels that work on one row of floats, and attention over pages: one table per instruction set.
// Every table gives the same bits: 8 lanes, the same order, fused multiply-adds where written.
#pragma once

#include <cstdint>

#include "plait/batch.h"
#include "plait/cpu.h"

namespace plait {

enum class Activation { silu, gelu, gelu_tanh };

// Rows of one KV head's queries against a run of pages. All arrays have num_rows entries.
struct AttentionTask {
  const void* const* k_pages;  // [num_pages] K [head_dim][32]
  const void* const* v_pages;  // [num_pages] V [32][head_dim]
  int num_pages;
  int first_slot;  // slot of the first page's first entry
  KvType type;
  int head_dim;  // multiple of 8, at most kMaxHeadDim
  float scale;
  int num_rows;
  const float* const* queries;
  const int32_t* low;  // row sees slots [low, high) ...
  const int32_t* high;
  const uint8_t* const* masks;  // ... and of the slots from mask_start on only those set; null: all
  int mask_start;
  float* const* states;  // [2 + head_dim] each: maximum, sum, weighted values
  float* page_scratch;   // [2 * 32 * head_dim]
};
constexpr int kMaxHeadDim = 512;

struct RowKernels {
  // out = x / sqrt(mean(x^2) + eps) * weight (+ residual when not null); out may be x.
  void (*rmsnorm)(const float* x, const float* weight, float eps, int64_t n, const float* residual,
                  float* out);
  // out = (x - mean) / sqrt(variance + eps) * weight + bias (bias may be null).
  void (*layernorm)(const float* x, const float* weight, const float* bias, float eps, int64_t n,
                    float* out);
  // out = activation(gate) * up.
  void (*gated)(Activation activation, const float* gate, const float* up, int64_t n, float* out);
  // out = alpha * x + y.
  void (*add)(const float* x, const float* y, float alpha, int64_t n, float* out);
  // Rotates the first 2 * pairs columns of each head in place; table: cos[pairs], sin[pairs].
  void (*rope)(float* x, int heads, int head_dim, int pairs, bool interleaved, const float* table);
  // Stores one slot's key and value of one head into its page.
  void (*store_kv)(const float* k, const float* v, int head_dim, int slot_in_page, KvType type,
                   void* k_page, void* v_page);
  // Fresh states over the task's pages in order, one rescale per page; a row that sees no slot of
  // them keeps maximum -inf and sum 0.
  void (*attention)(const AttentionTask& task);
  // total = total joined with part, both states [2 + head_dim].
  void (*merge_states)(float* total, const float* part, int head_dim);
};

const RowKernels& row_kernels(Isa isa);

}  // namespace plait
