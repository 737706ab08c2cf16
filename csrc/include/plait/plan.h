// The compiled forward pass: a flat list of ops over buffers, run in one call for a ragged batch.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "plait/batch.h"
#include "plait/linear.h"
#include "plait/routing.h"
#include "plait/rows.h"

namespace plait {

// Columns [offset, offset + width) of a buffer, one row per fed position or per wanted row.
struct View {
  int buffer;
  int offset;
  int width;
  bool wanted;
};

struct KvShape {
  int num_layers;
  int num_kv_heads;
  int head_dim;
  KvType type;
  int64_t num_pages;
};

// What the screen of the vocabulary matrix did so far: rows of logits; panels computed for them;
// rows (one per worker) where that would have been most of the matrix, so that it was all; steps in
// which a bound did not hold; rows that may choose so little that nothing was searched. All zero
// when the matrix is not in planes.
struct HeadCounts {
  int64_t rows = 0, panels = 0, wide = 0, broken = 0, narrow = 0;
};

class AttentionSchedule;
class Routed;
class Plan;

// What an op sees of the step that is running.
struct Step {
  const Batch& batch;
  Plan& plan;
  int worker;
};

// Of the attention in unified form: rows and chunks computed, and how many of them again in the
// online form because a sum was out of range.
struct AttentionCounts {
  int64_t unified = 0, redone = 0;
};

class Op {
 public:
  virtual ~Op() = default;
  // Called by every worker; may use the pool's barrier. What earlier ops wrote is visible.
  virtual void run(const Step& step) = 0;
  // True when each worker reads and writes only its own share of the token rows, so that a
  // neighbour of the same kind needs no barrier between.
  virtual bool is_row_local() const { return false; }
  // See Plan::energy and Plan::refine; only linear ops with quantised activations have any.
  virtual std::vector<float> energy() const { return {}; }
  virtual void refine(std::vector<int32_t>) {}
  // See Plan::center_keys; only attention has keys.
  virtual void center_keys(std::vector<float> mean, std::vector<float> scale);
  // See Plan::maxima and Plan::unify; only attention has scores.
  virtual std::vector<float> maxima() const { return {}; }
  virtual void unify(std::vector<float> maxima);
  virtual AttentionCounts attention_counts() const { return {}; }
  virtual HeadCounts head_counts() const { return {}; }
};

// How a linear op makes its input rows.
enum class Prologue { none, rmsnorm, gated };

struct LinearSpec {
  Prologue prologue = Prologue::none;
  std::vector<View> inputs;  // one; gate and up for Prologue::gated
  std::vector<float> norm_weight;
  float eps = 0;
  Activation activation = Activation::silu;
  std::vector<std::shared_ptr<const PackedMatrix>> weights;
  std::vector<std::vector<float>> biases;  // one per weight, empty for none
  View output{};
  bool accumulate = false;
};

struct AttentionSpec {
  View q, k, v, output;
  int layer = 0;
  int heads = 0;
  float scale = 1;
  int window = 0;
};

// A mixture of experts: each row's own sum of down(activation(gate x) * up x).
struct MoeSpec {
  View x, scores, output;                                           // scores: one column per expert
  std::vector<std::shared_ptr<const PackedMatrix>> gate, up, down;  // one per expert
  Activation activation = Activation::silu;
  Routing routing;
};

class Plan {
 public:
  // widths: floats per row of each buffer. result: the buffer that lives in Batch::out.
  Plan(std::vector<int> widths, int result, KvShape kv, bool int8, Isa isa,
       std::shared_ptr<Pool> pool);

  // Each adds one op at the end. They throw std::invalid_argument when shapes do not agree.
  void embed(std::shared_ptr<const PackedMatrix> weights, View output, float scale);
  void linear(LinearSpec spec);
  void rmsnorm(View x, View output, std::vector<float> weight, float eps, int groups,
               View residual);
  void layernorm(View x, View output, std::vector<float> weight, std::vector<float> bias,
                 float eps);
  void rope(View x, int heads, int table, bool interleaved);
  void attention(AttentionSpec spec);
  void gated(View gate, View up, View output, Activation activation);
  void moe(MoeSpec spec);
  void add(View x, View y, View output, float alpha);
  void wanted(View x, View output);
  // Registers a set of rotary frequencies; returns its number for rope().
  int rope_table(std::vector<float> inverse_frequencies);

  // Which activations are worth keeping finer: while watched, each linear op adds up, per block of
  // 32 columns of its input, the squares of the scales, to which the noise of rounding is
  // proportional. energy(op) is empty for an op that rounds nothing.
  void watch(bool on) { watching_ = on; }
  bool is_watching() const { return watching_; }
  std::vector<float> energy(int op) const { return ops_.at(op)->energy(); }
  // Makes these blocks of the op's input fine (see QuantizedRows): ascending, each once.
  void refine(int op, std::vector<int32_t> blocks);

  // From now on the attention op stores each key as (k - mean) / scale and multiplies queries by
  // scale, [num_kv_heads * head_dim] each, which leaves what it computes as it is up to rounding.
  void center_keys(int op, std::vector<float> mean, std::vector<float> scale);

  // Of the last run that was watched, the mean over its rows of the largest score, per query head.
  std::vector<float> maxima(int op) const { return ops_.at(op)->maxima(); }
  // From now on the attention op weighs scores against these maxima, one per query head, instead of
  // the largest that was met so far (FlashDecoding++, arXiv:2311.01282 section 3), which rounds
  // otherwise; a row whose sum leaves the range is computed again as before. Empty: no more.
  void unify(int op, std::vector<float> maxima);
  AttentionCounts attention_counts() const;

  HeadCounts head_counts() const;

  // Runs ops [first, last). With first > 0 Batch::hidden is copied to `entry` before; with `exit`
  // not null its rows are copied to Batch::out after. The batch must have been checked (see
  // check()).
  void run(const Batch& batch, int first, int last, const View& entry, const View* exit);

  // Throws std::invalid_argument for anything that would make run() touch memory it should not.
  void check(const Batch& batch, int64_t num_pages_listed, int64_t num_masks) const;

  int num_ops() const { return static_cast<int>(ops_.size()); }
  int width() const { return width_; }
  int result_width() const { return widths_[result_]; }
  Isa isa() const { return isa_; }
  bool int8() const { return int8_; }
  const KvShape& kv() const { return kv_; }
  Pool& pool() { return *pool_; }
  const RowKernels& rows() const { return rows_; }

  float* at(const View& view, int64_t row) {
    return data_[view.buffer] + row * widths_[view.buffer] + view.offset;
  }
  int64_t stride(const View& view) const { return widths_[view.buffer]; }
  int num_rows(const Step& step, const View& view) const {
    return view.wanted ? step.batch.num_wanted : step.batch.num_rows;
  }
  // cos and sin of one row, [2 * pairs].
  const float* rope_row(int table, int row) const;
  int rope_pairs(int table) const { return static_cast<int>(ropes_[table].frequencies.size()); }
  // Slots that a row may see end here.
  const int32_t* limits() const { return limits_.data(); }
  // Counts the runs, from 1.
  int64_t run_number() const { return run_number_; }
  LinearScratch& scratch(int worker) { return scratch_[worker]; }
  // Shared by linear ops, one after the other: activations quantised or made in float.
  struct Activations {
    Buffer blocks, scales, floats;
  };
  Activations& activations() { return activations_; }
  // Shared by attention ops, one after the other, so that it stays in the caches: what each worker
  // has of its own, and the states of rows whose chunks are folded in the end.
  struct AttentionMemory {
    std::vector<Buffer> workers;
    Buffer states;
  };
  AttentionMemory& attention_memory() { return attention_memory_; }

 private:
  void check_view(const View& view) const;
  void reserve(const Batch& batch);
  void prepare(const Step& step);
  void work(const Batch& batch, int worker, int first, int last, const View& entry,
            const View* exit);
  std::shared_ptr<AttentionSchedule> schedule_for(int window, int group);
  void push(std::unique_ptr<Op> op) { ops_.push_back(std::move(op)); }

  struct RopeTable {
    std::vector<float> frequencies;
    std::vector<float> rows;
  };

  std::vector<int> widths_;
  int result_;
  KvShape kv_;
  bool int8_;
  Isa isa_;
  std::shared_ptr<Pool> pool_;
  const RowKernels& rows_;
  int vocab_ = 0;  // rows and
  int width_ = 0;  // columns of the embedding table
  std::vector<std::unique_ptr<Op>> ops_;
  std::vector<Buffer> buffers_;
  std::vector<float*> data_;
  std::vector<RopeTable> ropes_;
  std::vector<int32_t> limits_;
  std::vector<std::shared_ptr<AttentionSchedule>> schedules_;
  int64_t run_number_ = 0;
  std::vector<LinearScratch> scratch_;
  Activations activations_;
  AttentionMemory attention_memory_;
  std::shared_ptr<Routed> routed_;  // null without a mixture of experts
  int64_t most_cols_ = 0;           // of an op's activations, rests included
  bool watching_ = false;
};

}  // namespace plait
