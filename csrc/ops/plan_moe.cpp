// The mixture-of-experts op of the plan. Rows are sorted by expert, so that each expert's matrices
// are read once for all rows that chose it and those of the others not at all. A row's result is
// the sum over its experts in the order of their numbers, whatever else is in the batch.
#include <cstring>
#include <stdexcept>

#include "ops/routed.h"
#include "plait/plan.h"

namespace plait {
namespace {

void demand(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

// How the matrices of one kind meet their input.
struct Meeting {
  Meeting(const std::vector<std::shared_ptr<const PackedMatrix>>& matrices, bool int8) {
    for (const auto& matrix : matrices) {
      const bool is_int8 = int8 && has_int8_path(matrix->format());
      demand(is_int8 || (!matrix->is_sparse() && !matrix->has_planes()),
             "moe: these panels have no float path");
      (is_int8 ? needs_int8 : needs_float) = true;
    }
  }
  bool needs_int8 = false, needs_float = false;
};

class MoeOp final : public Op {
 public:
  MoeOp(MoeSpec spec, bool int8, std::shared_ptr<Routed> routed)
      : spec_(std::move(spec)),
        int8_(int8),
        gate_(spec_.gate, int8),
        up_(spec_.up, int8),
        down_(spec_.down, int8),
        cols_(spec_.x.width),
        inner_(spec_.gate[0]->rows()),
        routed_(std::move(routed)) {
    if (input_needs_int8()) energy_.resize(static_cast<size_t>(cols_ / kFineBlock));
    announce();
  }

  std::vector<float> energy() const override { return energy_; }
  void refine(std::vector<int32_t> blocks) override {
    fine_ = std::move(blocks);
    announce();
  }

  void run(const Step& step) override {
    Plan& plan = step.plan;
    const int rows = plan.num_rows(step, spec_.x);
    if (rows == 0) return;
    choose(step, rows);
    plan.pool().barrier();
    if (step.worker == 0) routed_->sort(rows, spec_.routing.top_k, spec_.scores.width);
    plan.pool().barrier();
    gather(step, rows);
    plan.pool().barrier();
    if (input_needs_int8() && plan.is_watching() && step.worker == 0) add_energy(rows);
    multiply_first(step);
    plan.pool().barrier();
    gate(step, rows);
    plan.pool().barrier();
    multiply_second(step);
  }

 private:
  bool input_needs_int8() const { return gate_.needs_int8 || up_.needs_int8; }
  bool input_needs_float() const { return gate_.needs_float || up_.needs_float; }

  void announce() {
    routed_->need({spec_.routing.top_k, spec_.scores.width, cols_,
                   static_cast<int64_t>(fine_.size()), inner_, spec_.output.width,
                   input_needs_int8() || down_.needs_int8, input_needs_float()});
  }

  void choose(const Step& step, int rows) {
    const int top_k = spec_.routing.top_k;
    const Share share = share_of(rows, 1, step.worker, step.plan.pool().size());
    for (int64_t row = share.begin; row < share.end; ++row) {
      choose_experts(spec_.routing, step.plan.at(spec_.scores, row), spec_.scores.width,
                     routed_->experts(row, top_k), routed_->weights(row, top_k));
      std::memset(step.plan.at(spec_.output, row), 0, spec_.output.width * sizeof(float));
    }
  }

  // The input of every routed row, as its expert meets it.
  void gather(const Step& step, int rows) {
    Plan& plan = step.plan;
    const Share share = own_routed(step, rows);
    for (int64_t i = share.begin; i < share.end; ++i) {
      const float* x = plan.at(spec_.x, routed_->row_of(i, spec_.routing.top_k));
      if (input_needs_float())
        std::memcpy(floats_of(routed_->input()) + i * cols_, x, cols_ * sizeof(float));
      if (!input_needs_int8()) continue;
      ActBlock* blocks = blocks_of(routed_->input()) + i * stride();
      const float scale = quantize(plan, routed_->input(), i, x, cols_, blocks);
      for (size_t f = 0; f < fine_.size(); ++f)
        quantize_rest(plan.isa(), x + fine_[f] * kFineBlock, blocks[fine_[f]], scale,
                      blocks + cols_ / kFineBlock + static_cast<int64_t>(f));
    }
  }

  void multiply_first(const Step& step) {
    for (const Routed::Span& span : routed_->spans()) {
      float* out = routed_->gated() + span.begin * 2 * inner_;
      const float* floats = floats_of(routed_->input()) + span.begin * cols_;
      const QuantizedRows x{blocks_of(routed_->input()) + span.begin * stride(),
                            floats_of_scales(routed_->input()) + span.begin, cols_, fine_.data(),
                            static_cast<int64_t>(fine_.size())};
      multiply(step, *spec_.gate[span.expert], x, floats, cols_, span.size(), out, 2 * inner_);
      multiply(step, *spec_.up[span.expert], x, floats, cols_, span.size(), out + inner_,
               2 * inner_);
    }
  }

  // activation(gate) * up over the gate, and quantised.
  void gate(const Step& step, int rows) {
    const Share share = own_routed(step, rows);
    for (int64_t i = share.begin; i < share.end; ++i) {
      float* made = routed_->gated() + i * 2 * inner_;
      step.plan.rows().gated(spec_.activation, made, made + inner_, inner_, made);
      if (down_.needs_int8)
        quantize(step.plan, routed_->inner(), i, made, inner_,
                 blocks_of(routed_->inner()) + i * (inner_ / kFineBlock));
    }
  }

  // Each worker keeps to its own columns, of every expert the same.
  void multiply_second(const Step& step) {
    Plan& plan = step.plan;
    const int64_t width = spec_.output.width;
    const Share panels = own_panels(step, *spec_.down[0]);
    const int64_t begin = panels.begin * kPanelRows;
    const int64_t count = std::min(panels.end * kPanelRows, width) - begin;
    if (panels.begin >= panels.end) return;
    for (const Routed::Span& span : routed_->spans()) {
      const QuantizedRows x{blocks_of(routed_->inner()) + span.begin * (inner_ / kFineBlock),
                            floats_of_scales(routed_->inner()) + span.begin, inner_, nullptr, 0};
      multiply(step, *spec_.down[span.expert], x, routed_->gated() + span.begin * 2 * inner_,
               2 * inner_, span.size(), routed_->made(), width);
      for (int64_t i = span.begin; i < span.end; ++i) {
        float* out = plan.at(spec_.output, routed_->row_of(i, spec_.routing.top_k)) + begin;
        const float* made = routed_->made() + (i - span.begin) * width + begin;
        plan.rows().add(made, out, routed_->weight_of(i), count, out);
      }
    }
  }

  // This worker's panels of one matrix.
  void multiply(const Step& step, const PackedMatrix& weight, const QuantizedRows& x,
                const float* floats, int64_t float_stride, int64_t rows, float* out,
                int64_t stride) {
    Plan& plan = step.plan;
    const Share share = own_panels(step, weight);
    const LinearOutput output{out, stride, nullptr, false};
    LinearScratch& scratch = plan.scratch(step.worker);
    if (share.begin >= share.end) return;
    if (int8_ && has_int8_path(weight.format()))
      linear_int8(plan.isa(), weight, x, rows, share.begin, share.end, output, scratch);
    else
      linear_f32(plan.isa(), weight, floats, float_stride, rows, share.begin, share.end, output,
                 scratch);
  }

  // The whole row; its scale.
  static float quantize(Plan& plan, Routed::Activations& to, int64_t row, const float* x,
                        int64_t cols, ActBlock* blocks) {
    const float scale = row_scale(plan.isa(), x, cols);
    floats_of_scales(to)[row] = scale;
    quantize_blocks(plan.isa(), x, cols / kFineBlock, scale, blocks);
    return scale;
  }

  void add_energy(int rows) {
    const int64_t routed = static_cast<int64_t>(rows) * spec_.routing.top_k;
    for (int64_t i = 0; i < routed; ++i) {
      const ActBlock* blocks = blocks_of(routed_->input()) + i * stride();
      const float scale = floats_of_scales(routed_->input())[i];
      for (size_t b = 0; b < energy_.size(); ++b) energy_[b] += block_energy(blocks[b], scale);
    }
  }

  Share own_routed(const Step& step, int rows) const {
    const int64_t routed = static_cast<int64_t>(rows) * spec_.routing.top_k;
    return share_of(routed, 1, step.worker, step.plan.pool().size());
  }
  static Share own_panels(const Step& step, const PackedMatrix& weight) {
    return share_of(weight.num_panels(), 1, step.worker, step.plan.pool().size());
  }
  static ActBlock* blocks_of(Routed::Activations& rows) {
    return reinterpret_cast<ActBlock*>(rows.blocks.data());
  }
  static float* floats_of_scales(Routed::Activations& rows) {
    return reinterpret_cast<float*>(rows.scales.data());
  }
  static float* floats_of(Routed::Activations& rows) {
    return reinterpret_cast<float*>(rows.floats.data());
  }
  int64_t stride() const { return cols_ / kFineBlock + static_cast<int64_t>(fine_.size()); }

  MoeSpec spec_;
  bool int8_;
  Meeting gate_, up_, down_;
  int64_t cols_, inner_;
  std::vector<int32_t> fine_;
  std::vector<float> energy_;
  std::shared_ptr<Routed> routed_;
};

void check_matrices(const std::vector<std::shared_ptr<const PackedMatrix>>& matrices, int64_t count,
                    int64_t rows, int64_t cols) {
  demand(static_cast<int64_t>(matrices.size()) == count, "moe: one matrix of a kind per expert");
  for (const auto& matrix : matrices)
    demand(matrix && matrix->rows() == rows && matrix->cols() == cols,
           "moe: the experts do not fit");
}

}  // namespace

void Plan::moe(MoeSpec spec) {
  for (const View& view : {spec.x, spec.scores, spec.output}) check_view(view);
  const int64_t count = spec.scores.width;
  check_routing(spec.routing, count);
  demand(!spec.gate.empty() && spec.gate[0], "moe: no experts");
  const int64_t inner = spec.gate[0]->rows();
  check_matrices(spec.gate, count, inner, spec.x.width);
  check_matrices(spec.up, count, inner, spec.x.width);
  check_matrices(spec.down, count, spec.output.width, inner);
  demand(spec.x.wanted == spec.output.wanted && spec.x.wanted == spec.scores.wanted &&
             spec.x.buffer != spec.output.buffer,
         "moe: input and output rows differ");
  if (!routed_) routed_ = std::make_shared<Routed>();
  push(std::make_unique<MoeOp>(std::move(spec), int8_, routed_));
}

}  // namespace plait
