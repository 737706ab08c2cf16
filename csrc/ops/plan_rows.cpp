// Ops of the plan that work row by row: embedding, norms, rotary embedding, sums.
#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "plait/plan.h"

namespace plait {
namespace {

void demand(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

// Runs body(row) over this worker's share of the rows of `view`.
template <class Body>
void for_own_rows(const Step& step, const View& view, Body body) {
  const Share share =
      share_of(step.plan.num_rows(step, view), 1, step.worker, step.plan.pool().size());
  for (int64_t row = share.begin; row < share.end; ++row) body(row);
}

class RowOp : public Op {
 public:
  bool is_row_local() const override { return true; }
};

class EmbedOp final : public RowOp {
 public:
  EmbedOp(std::shared_ptr<const PackedMatrix> weights, View output, float scale)
      : weights_(std::move(weights)), output_(output), scale_(scale) {}

  void run(const Step& step) override {
    const Batch& batch = step.batch;
    for_own_rows(step, output_, [&](int64_t row) {
      float* out = step.plan.at(output_, row);
      const int32_t given = batch.embedding_rows ? batch.embedding_rows[row] : -1;
      if (given >= 0) {
        std::memcpy(out, batch.embeddings + static_cast<int64_t>(given) * output_.width,
                    output_.width * sizeof(float));
        return;
      }
      weights_->dequantize_row(batch.tokens[row], out);
      for (int i = 0; i < output_.width; ++i) out[i] *= scale_;
    });
  }

 private:
  std::shared_ptr<const PackedMatrix> weights_;
  View output_;
  float scale_;
};

class RmsNormOp final : public RowOp {
 public:
  RmsNormOp(View x, View output, std::vector<float> weight, float eps, int groups, View residual)
      : x_(x),
        output_(output),
        residual_(residual),
        weight_(std::move(weight)),
        eps_(eps),
        groups_(groups) {}

  void run(const Step& step) override {
    Plan& plan = step.plan;
    const int width = x_.width / groups_;
    for_own_rows(step, x_, [&](int64_t row) {
      const float* x = plan.at(x_, row);
      const float* residual = residual_.buffer < 0 ? nullptr : plan.at(residual_, row);
      float* out = plan.at(output_, row);
      for (int g = 0; g < groups_; ++g)
        plan.rows().rmsnorm(x + g * width, weight_.data(), eps_, width,
                            residual ? residual + g * width : nullptr, out + g * width);
    });
  }

 private:
  View x_, output_, residual_;
  std::vector<float> weight_;
  float eps_;
  int groups_;
};

class LayerNormOp final : public RowOp {
 public:
  LayerNormOp(View x, View output, std::vector<float> weight, std::vector<float> bias, float eps)
      : x_(x), output_(output), weight_(std::move(weight)), bias_(std::move(bias)), eps_(eps) {}

  void run(const Step& step) override {
    for_own_rows(step, x_, [&](int64_t row) {
      step.plan.rows().layernorm(step.plan.at(x_, row), weight_.data(),
                                 bias_.empty() ? nullptr : bias_.data(), eps_, x_.width,
                                 step.plan.at(output_, row));
    });
  }

 private:
  View x_, output_;
  std::vector<float> weight_, bias_;
  float eps_;
};

class RopeOp final : public RowOp {
 public:
  RopeOp(View x, int heads, int table, bool interleaved)
      : x_(x), heads_(heads), table_(table), interleaved_(interleaved) {}

  void run(const Step& step) override {
    const int pairs = step.plan.rope_pairs(table_);
    for_own_rows(step, x_, [&](int64_t row) {
      step.plan.rows().rope(step.plan.at(x_, row), heads_, x_.width / heads_, pairs, interleaved_,
                            step.plan.rope_row(table_, static_cast<int>(row)));
    });
  }

 private:
  View x_;
  int heads_, table_;
  bool interleaved_;
};

class GatedOp final : public RowOp {
 public:
  GatedOp(View gate, View up, View output, Activation activation)
      : gate_(gate), up_(up), output_(output), activation_(activation) {}

  void run(const Step& step) override {
    Plan& plan = step.plan;
    for_own_rows(step, gate_, [&](int64_t row) {
      plan.rows().gated(activation_, plan.at(gate_, row), plan.at(up_, row), gate_.width,
                        plan.at(output_, row));
    });
  }

 private:
  View gate_, up_, output_;
  Activation activation_;
};

class AddOp final : public RowOp {
 public:
  AddOp(View x, View y, View output, float alpha) : x_(x), y_(y), output_(output), alpha_(alpha) {}

  void run(const Step& step) override {
    Plan& plan = step.plan;
    for_own_rows(step, x_, [&](int64_t row) {
      plan.rows().add(plan.at(x_, row), plan.at(y_, row), alpha_, x_.width, plan.at(output_, row));
    });
  }

 private:
  View x_, y_, output_;
  float alpha_;
};

class WantedOp final : public Op {
 public:
  WantedOp(View x, View output) : x_(x), output_(output) {}

  void run(const Step& step) override {
    for_own_rows(step, output_, [&](int64_t row) {
      std::memcpy(step.plan.at(output_, row), step.plan.at(x_, step.batch.wanted[row]),
                  x_.width * sizeof(float));
    });
  }

 private:
  View x_, output_;
};

}  // namespace

void Plan::embed(std::shared_ptr<const PackedMatrix> weights, View output, float scale) {
  check_view(output);
  demand(weights->cols() == output.width, "embed: width of the table and of the rows differ");
  vocab_ = static_cast<int>(weights->rows());
  width_ = output.width;
  push(std::make_unique<EmbedOp>(std::move(weights), output, scale));
}

void Plan::rmsnorm(View x, View output, std::vector<float> weight, float eps, int groups,
                   View residual) {
  check_view(x);
  check_view(output);
  if (residual.buffer >= 0) check_view(residual);
  demand(groups > 0 && x.width == output.width &&
             static_cast<int64_t>(weight.size()) * groups == x.width &&
             (residual.buffer < 0 || residual.width == x.width),
         "rmsnorm: widths differ");
  push(std::make_unique<RmsNormOp>(x, output, std::move(weight), eps, groups, residual));
}

void Plan::layernorm(View x, View output, std::vector<float> weight, std::vector<float> bias,
                     float eps) {
  check_view(x);
  check_view(output);
  const size_t width = static_cast<size_t>(x.width);
  demand(
      x.width == output.width && weight.size() == width && (bias.empty() || bias.size() == width),
      "layernorm: widths differ");
  push(std::make_unique<LayerNormOp>(x, output, std::move(weight), std::move(bias), eps));
}

void Plan::rope(View x, int heads, int table, bool interleaved) {
  check_view(x);
  demand(table >= 0 && table < static_cast<int>(ropes_.size()), "rope: no such table");
  demand(heads > 0 && x.width % heads == 0 && 2 * rope_pairs(table) <= x.width / heads,
         "rope: more pairs than a head has");
  push(std::make_unique<RopeOp>(x, heads, table, interleaved));
}

void Plan::gated(View gate, View up, View output, Activation activation) {
  for (const View& view : {gate, up, output}) check_view(view);
  demand(gate.width == up.width && gate.width == output.width, "gated: widths differ");
  push(std::make_unique<GatedOp>(gate, up, output, activation));
}

void Plan::add(View x, View y, View output, float alpha) {
  for (const View& view : {x, y, output}) check_view(view);
  demand(x.width == y.width && x.width == output.width, "add: widths differ");
  push(std::make_unique<AddOp>(x, y, output, alpha));
}

void Plan::wanted(View x, View output) {
  check_view(x);
  check_view(output);
  demand(x.width == output.width && output.wanted, "wanted: widths differ");
  push(std::make_unique<WantedOp>(x, output));
}

}  // namespace plait
