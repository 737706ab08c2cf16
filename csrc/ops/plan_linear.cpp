// The linear op of the plan: make the input rows (norm or gate, quantise), then all weights on
// them.
#include <algorithm>
#include <atomic>
#include <stdexcept>

#include "ops/head.h"
#include "plait/plan.h"

namespace plait {
namespace {

void demand(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

// From so many rows on products take the time, not reading: each worker takes a large piece of the
// weights, and the last quarter goes in small ones to whoever has time, so that a worker that a
// neighbour slows down holds up nobody. With fewer rows each reads its share, in streams as long as
// can be, and so it does of few panels.
constexpr int kTurnsFrom = 3;
constexpr int64_t kTurnPanels = 32;  // per worker
constexpr int64_t kPiecePanels = 4;  // pieces are multiples of this

int64_t whole_pieces(int64_t panels) {
  return panels / kPiecePanels * kPiecePanels;
}

// Piece `turn` of `count` panels; the first ones are the workers' own. Empty behind the last one.
Share piece_of(int64_t count, int64_t turn, int64_t workers) {
  const int64_t large = whole_pieces(count * 3 / 4 / workers);
  const int64_t small = std::max(kPiecePanels, whole_pieces(count / (16 * workers)));
  const int64_t begin = turn < workers ? turn * large : workers * large + (turn - workers) * small;
  return {std::min(begin, count), std::min(begin + (turn < workers ? large : small), count)};
}

class LinearOp final : public Op {
 public:
  LinearOp(LinearSpec spec, bool int8, int workers)
      : spec_(std::move(spec)), cols_(spec_.weights[0]->cols()) {
    for (const auto& weight : spec_.weights) {
      const bool quantized = int8 && has_int8_path(weight->format());
      demand(quantized || !weight->is_sparse(), "linear: sparse panels have no float path");
      needs_int8_ = needs_int8_ || quantized;
      quantized_.push_back(quantized);
      num_panels_ += weight->num_panels();
    }
    if (needs_int8_) energy_.resize(static_cast<size_t>(cols_ / kFineBlock));
    const bool is_plain = spec_.weights.size() == 1 && spec_.biases[0].empty() && !spec_.accumulate;
    if (is_plain && spec_.output.wanted && spec_.weights[0]->has_planes())
      head_ = std::make_unique<Head>(spec_.weights[0], workers);
  }

  std::vector<float> energy() const override { return energy_; }
  void refine(std::vector<int32_t> blocks) override { fine_ = std::move(blocks); }
  HeadCounts head_counts() const override { return head_ ? head_->counts() : HeadCounts{}; }

  void run(const Step& step) override {
    const int rows = step.plan.num_rows(step, spec_.output);
    if (rows == 0) return;
    if (step.worker == 0) next_.store(step.plan.pool().size(), std::memory_order_relaxed);
    make_input(step, rows);
    const bool may_screen = head_ && needs_best_only(step.batch);
    const bool screens = may_screen && head_->pays(step);
    step.plan.pool().barrier();
    if (needs_int8_ && step.plan.is_watching() && step.worker == 0) add_energy(step.plan, rows);
    if (screens) return screen(step);
    if (may_screen && step.worker == 0) head_->skip(step.batch);
    multiply(step, rows);
  }

 private:
  // Rows are shared out; with fewer rows than workers an input that needs no whole-row sum is cut
  // into column pieces as well.
  void make_input(const Step& step, int rows) {
    Plan& plan = step.plan;
    const int workers = plan.pool().size();
    if (rows >= workers || spec_.prologue == Prologue::rmsnorm) {
      const Share share = share_of(rows, 1, step.worker, workers);
      for (int64_t row = share.begin; row < share.end; ++row) {
        make_piece(plan, row, {0, cols_});
        quantize_piece(plan, row, {0, cols_});
      }
      return;
    }
    const Share share = share_of(cols_, kFineBlock, step.worker, workers);
    for (int row = 0; row < rows; ++row) make_piece(plan, row, share);
    // The scale of a row needs all of it.
    if (spec_.prologue != Prologue::none && needs_int8_) plan.pool().barrier();
    for (int row = 0; row < rows; ++row) quantize_piece(plan, row, share);
  }

  bool is_made() const { return spec_.prologue != Prologue::none; }

  // The row that the weights meet: made here, or the input itself.
  float* made_row(Plan& plan, int64_t row) const {
    if (!is_made()) return plan.at(spec_.inputs[0], row);
    return reinterpret_cast<float*>(plan.activations().floats.data()) + row * cols_;
  }

  void make_piece(Plan& plan, int64_t row, Share piece) {
    const int64_t count = piece.end - piece.begin;
    const float* x = plan.at(spec_.inputs[0], row) + piece.begin;
    float* made = made_row(plan, row) + piece.begin;
    if (spec_.prologue == Prologue::rmsnorm)
      plan.rows().rmsnorm(x, spec_.norm_weight.data(), spec_.eps, count, nullptr, made);
    else if (spec_.prologue == Prologue::gated)
      plan.rows().gated(spec_.activation, x, plan.at(spec_.inputs[1], row) + piece.begin, count,
                        made);
  }

  void quantize_piece(Plan& plan, int64_t row, Share piece) {
    if (!needs_int8_ || piece.begin == piece.end) return;
    const float* x = made_row(plan, row);
    ActBlock* blocks = blocks_of(plan) + row * stride();
    const float scale = row_scale(plan.isa(), x, cols_);
    if (piece.begin == 0) scales_of(plan)[row] = scale;
    const int64_t first = piece.begin / kFineBlock, end = piece.end / kFineBlock;
    quantize_blocks(plan.isa(), x + piece.begin, end - first, scale, blocks + first);
    for (size_t i = 0; i < fine_.size(); ++i) {
      const int64_t fine = fine_[i];
      if (fine < first || fine >= end) continue;
      ActBlock* rest = blocks + cols_ / kFineBlock + static_cast<int64_t>(i);
      quantize_rest(plan.isa(), x + fine * kFineBlock, blocks[fine], scale, rest);
    }
  }

  static ActBlock* blocks_of(Plan& plan) {
    return reinterpret_cast<ActBlock*>(plan.activations().blocks.data());
  }
  static float* scales_of(Plan& plan) {
    return reinterpret_cast<float*>(plan.activations().scales.data());
  }

  int64_t stride() const { return cols_ / kFineBlock + static_cast<int64_t>(fine_.size()); }

  QuantizedRows made_rows(Plan& plan) const {
    return {blocks_of(plan), scales_of(plan), cols_, fine_.data(),
            static_cast<int64_t>(fine_.size())};
  }

  void add_energy(Plan& plan, int rows) {
    for (int64_t row = 0; row < rows; ++row) {
      const ActBlock* blocks = blocks_of(plan) + row * stride();
      const float scale = scales_of(plan)[row];
      for (size_t i = 0; i < energy_.size(); ++i) energy_[i] += block_energy(blocks[i], scale);
    }
  }

  void screen(const Step& step) {
    const LinearOutput out{step.plan.at(spec_.output, 0), step.plan.stride(spec_.output), nullptr,
                           false};
    head_->run(step, made_rows(step.plan), out);
  }

  void multiply(const Step& step, int rows) {
    const int workers = step.plan.pool().size();
    if (!takes_turns(rows, workers)) {
      for (size_t i = 0; i < spec_.weights.size(); ++i)
        multiply_panels(step, rows, i,
                        share_of(spec_.weights[i]->num_panels(), 1, step.worker, workers));
      return;
    }
    for (int64_t turn = step.worker;; turn = next_.fetch_add(1, std::memory_order_relaxed)) {
      const Share piece = piece_of(num_panels_, turn, workers);
      if (piece.begin == num_panels_) return;
      int64_t first = 0;
      for (size_t i = 0; i < spec_.weights.size(); ++i) {
        const int64_t panels = spec_.weights[i]->num_panels();
        multiply_panels(step, rows, i,
                        {std::clamp<int64_t>(piece.begin - first, 0, panels),
                         std::clamp<int64_t>(piece.end - first, 0, panels)});
        first += panels;
      }
    }
  }

  // Sparse panels have work of their own to do for each piece.
  bool takes_turns(int rows, int workers) const {
    return rows >= kTurnsFrom && num_panels_ >= kTurnPanels * workers &&
           !spec_.weights[0]->is_sparse();
  }

  void multiply_panels(const Step& step, int rows, size_t number, Share share) {
    if (share.begin == share.end) return;
    Plan& plan = step.plan;
    const PackedMatrix& weight = *spec_.weights[number];
    const std::vector<float>& bias = spec_.biases[number];
    int64_t column = 0;
    for (size_t i = 0; i < number; ++i) column += spec_.weights[i]->rows();
    const LinearOutput out{plan.at(spec_.output, 0) + column, plan.stride(spec_.output),
                           bias.empty() ? nullptr : bias.data(), spec_.accumulate};
    LinearScratch& scratch = plan.scratch(step.worker);
    if (quantized_[number]) {
      linear_int8(plan.isa(), weight, made_rows(plan), rows, share.begin, share.end, out, scratch);
      return;
    }
    const int64_t stride = is_made() ? cols_ : plan.stride(spec_.inputs[0]);
    linear_f32(plan.isa(), weight, made_row(plan, 0), stride, rows, share.begin, share.end, out,
               scratch);
  }

  // With one row that needs all its logits the whole matrix is read anyway.
  static bool needs_best_only(const Batch& batch) {
    return batch.best != nullptr && std::all_of(batch.best, batch.best + batch.num_wanted,
                                                [](int32_t count) { return count > 0; });
  }

  LinearSpec spec_;
  std::unique_ptr<Head> head_;
  int64_t cols_;
  int64_t num_panels_ = 0;  // of all weights
  std::vector<bool> quantized_;
  std::vector<float> energy_;
  std::vector<int32_t> fine_;
  bool needs_int8_ = false;
  std::atomic<int64_t> next_{0};  // piece of the weights to take
};

}  // namespace

void Plan::linear(LinearSpec spec) {
  demand(!spec.weights.empty() && spec.biases.size() == spec.weights.size(),
         "linear: one bias (or none) per weight");
  const size_t inputs = spec.prologue == Prologue::gated ? 2 : 1;
  demand(spec.inputs.size() == inputs, "linear: wrong number of inputs");
  check_view(spec.output);
  int64_t total = 0;
  const int64_t cols = spec.inputs[0].width;
  for (size_t i = 0; i < spec.weights.size(); ++i) {
    demand(spec.weights[i]->cols() == cols, "linear: the weights do not fit the input");
    demand(int8_ || !spec.weights[i]->has_planes(), "linear: planes need quantised activations");
    demand(spec.biases[i].empty() ||
               static_cast<int64_t>(spec.biases[i].size()) == spec.weights[i]->rows(),
           "linear: a bias does not fit its weight");
    total += spec.weights[i]->rows();
  }
  for (const View& input : spec.inputs) {
    check_view(input);
    demand(input.width == cols && input.wanted == spec.output.wanted, "linear: inputs differ");
  }
  demand(total == spec.output.width, "linear: the weights do not fit the output");
  demand(
      spec.prologue != Prologue::rmsnorm || static_cast<int64_t>(spec.norm_weight.size()) == cols,
      "linear: the norm does not fit the input");
  most_cols_ = std::max(most_cols_, cols);
  push(std::make_unique<LinearOp>(std::move(spec), int8_, pool_->size()));
}

}  // namespace plait
