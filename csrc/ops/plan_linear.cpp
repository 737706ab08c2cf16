// The linear op of the plan: make the input rows (norm or gate, quantise), then all weights on
// them.
#include <algorithm>
#include <stdexcept>

#include "ops/head.h"
#include "plait/plan.h"

namespace plait {
namespace {

void demand(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

class LinearOp final : public Op {
 public:
  LinearOp(LinearSpec spec, bool int8, int workers)
      : spec_(std::move(spec)), cols_(spec_.weights[0]->cols()) {
    for (const auto& weight : spec_.weights) {
      const bool quantized = int8 && has_int8_path(weight->format());
      demand(quantized || !weight->is_sparse(), "linear: sparse panels have no float path");
      (quantized ? needs_int8_ : needs_float_) = true;
      quantized_.push_back(quantized);
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
    make_input(step, rows);
    const int32_t* best = step.batch.best;
    const bool may_screen = head_ && needs_best_only(step.batch);
    const bool screens = may_screen && head_->pays(best, rows);
    step.plan.pool().barrier();
    if (needs_int8_ && step.plan.is_watching() && step.worker == 0) add_energy(step.plan, rows);
    if (screens) return screen(step, rows);
    if (may_screen && step.worker == 0) head_->skip(best, rows);
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
      for (int64_t row = share.begin; row < share.end; ++row) make_piece(plan, row, 0, cols_);
      return;
    }
    const Share share = share_of(cols_, kFineBlock, step.worker, workers);
    if (share.begin == share.end) return;
    for (int row = 0; row < rows; ++row) make_piece(plan, row, share.begin, share.end);
  }

  void make_piece(Plan& plan, int64_t row, int64_t begin, int64_t end) {
    auto& act = plan.activations();
    const float* x = plan.at(spec_.inputs[0], row) + begin;
    float* made = reinterpret_cast<float*>(act.floats.data()) + row * cols_ + begin;
    const int64_t n = end - begin;
    if (spec_.prologue == Prologue::rmsnorm) {
      plan.rows().rmsnorm(x, spec_.norm_weight.data(), spec_.eps, n, nullptr, made);
      x = made;
    } else if (spec_.prologue == Prologue::gated) {
      plan.rows().gated(spec_.activation, x, plan.at(spec_.inputs[1], row) + begin, n, made);
      x = made;
    }
    if (!needs_int8_) return;
    int8_t* values = reinterpret_cast<int8_t*>(act.values.data()) + row * stride();
    float* scales = reinterpret_cast<float*>(act.scales.data()) + row * (stride() / kActBlock);
    int16_t* sums = reinterpret_cast<int16_t*>(act.sums.data()) + row * (stride() / kActBlock);
    quantize_row(plan.isa(), x, n, values + begin, scales + begin / kActBlock,
                 sums + begin / kActBlock);
    for (size_t i = 0; i < fine_.size(); ++i) {
      const int64_t from = int64_t{fine_[i]} * kFineBlock;
      if (from < begin || from >= end) continue;
      const int64_t to = cols_ + static_cast<int64_t>(i) * kFineBlock;
      quantize_rest(plan.isa(), x + from - begin, values + from, scales + from / kActBlock,
                    values + to, scales + to / kActBlock, sums + to / kActBlock);
    }
  }

  int64_t stride() const { return quantized(nullptr, nullptr, nullptr).stride(); }

  QuantizedRows quantized(const int8_t* values, const float* scales, const int16_t* sums) const {
    return {values, scales, sums, cols_, fine_.data(), static_cast<int64_t>(fine_.size())};
  }

  void add_energy(Plan& plan, int rows) {
    const auto* scales = reinterpret_cast<const float*>(plan.activations().scales.data());
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t i = 0; i < cols_ / kActBlock; ++i) {
        const float scale = scales[row * (stride() / kActBlock) + i];
        energy_[static_cast<size_t>(i * kActBlock / kFineBlock)] += scale * scale;
      }
  }

  QuantizedRows made_rows(Plan& plan) const {
    auto& act = plan.activations();
    return quantized(reinterpret_cast<const int8_t*>(act.values.data()),
                     reinterpret_cast<const float*>(act.scales.data()),
                     reinterpret_cast<const int16_t*>(act.sums.data()));
  }

  void screen(const Step& step, int rows) {
    const LinearOutput out{step.plan.at(spec_.output, 0), step.plan.stride(spec_.output), nullptr,
                           false};
    head_->run(step, made_rows(step.plan), step.batch.best, rows, out);
  }

  void multiply(const Step& step, int rows) {
    Plan& plan = step.plan;
    const QuantizedRows x = made_rows(plan);
    const bool made = spec_.prologue != Prologue::none;
    const float* floats = made ? reinterpret_cast<const float*>(plan.activations().floats.data())
                               : plan.at(spec_.inputs[0], 0);
    const int64_t float_stride = made ? cols_ : plan.stride(spec_.inputs[0]);
    int64_t column = 0;
    for (size_t i = 0; i < spec_.weights.size(); ++i) {
      const PackedMatrix& weight = *spec_.weights[i];
      const std::vector<float>& bias = spec_.biases[i];
      const LinearOutput out{plan.at(spec_.output, 0) + column, plan.stride(spec_.output),
                             bias.empty() ? nullptr : bias.data(), spec_.accumulate};
      const Share share = share_of(weight.num_panels(), 1, step.worker, plan.pool().size());
      LinearScratch& scratch = plan.scratch(step.worker);
      if (share.begin < share.end) {
        if (quantized_[i])
          linear_int8(plan.isa(), weight, x, rows, share.begin, share.end, out, scratch);
        else
          linear_f32(plan.isa(), weight, floats, float_stride, rows, share.begin, share.end, out,
                     scratch);
      }
      column += weight.rows();
    }
  }

  // With one row that needs all its logits the whole matrix is read anyway.
  static bool needs_best_only(const Batch& batch) {
    return batch.best != nullptr && std::all_of(batch.best, batch.best + batch.num_wanted,
                                                [](int32_t count) { return count > 0; });
  }

  LinearSpec spec_;
  std::unique_ptr<Head> head_;
  int64_t cols_;
  std::vector<bool> quantized_;
  std::vector<float> energy_;
  std::vector<int32_t> fine_;
  bool needs_int8_ = false;
  bool needs_float_ = false;
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
