#include "ops/head.h"

#include <algorithm>
#include <limits>

namespace plait {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// With a larger share of panels computed, those of all rows together, the whole product is faster:
// reading them one by one costs more than in a row, and the screen has cost a third to a half of
// the product.
constexpr float kMostShare = 0.25f;

// Which of Head::share_ counts.
int kind_of(const int32_t* best, int64_t rows) {
  return std::any_of(best, best + rows, [](int32_t count) { return count > 1; });
}

bool is_higher(const BestRows::Entry& a, const BestRows::Entry& b) {
  return a.bound > b.bound;
}

QuantizedRows row_of(const QuantizedRows& x, int64_t row) {
  QuantizedRows one = x;
  one.blocks += row * x.stride();
  one.scales += row;
  return one;
}

}  // namespace

void BestRows::start(int new_count) {
  count = static_cast<size_t>(new_count);
  floor = -kInf;
  kept.clear();
}

void BestRows::offer(float bound, int64_t row) {
  kept.push_back({bound, row});
  std::ranges::push_heap(kept, is_higher);
  if (kept.size() > count) {
    std::ranges::pop_heap(kept, is_higher);
    kept.pop_back();
  }
  if (kept.size() == count) floor = kept.front().bound;
}

struct Head::Part {
  const Step& step;
  const QuantizedRows& x;
  const LinearOutput& out;
  Share panels;

  LinearScratch& scratch() const { return step.plan.scratch(step.worker); }
  LinearOutput out_of(int64_t row) const {
    return {out.data + row * out.stride, out.stride, nullptr, false};
  }
};

Head::Head(std::shared_ptr<const PackedMatrix> weights, int workers)
    : weights_(std::move(weights)), best_(static_cast<size_t>(workers)) {}

void Head::run(const Step& step, const QuantizedRows& x, const int32_t* best, int64_t rows,
               const LinearOutput& out) {
  Plan& plan = step.plan;
  const Part part{step, x, out,
                  share_of(weights_->num_panels(), 1, step.worker, plan.pool().size())};
  auto& own = best_[static_cast<size_t>(step.worker)];
  own.resize(std::max(own.size(), static_cast<size_t>(rows)));
  for (int64_t row = 0; row < rows; ++row) own[row].start(best[row]);
  screen_int8(plan.isa(), *weights_, x, rows, part.panels.begin, part.panels.end, out,
              part.scratch(), own.data());
  for (int64_t row = 0; row < rows; ++row) compute_best(part, row);
  plan.pool().barrier();
  for (int64_t row = 0; row < rows; ++row) settle(part, row, threshold(row, best[row]));
  plan.pool().barrier();
  const bool is_broken = broken_in_.load(std::memory_order_relaxed) == plan.run_number();
  if (is_broken) compute_all(part, 0, rows);
  if (step.worker != 0) return;
  learn(best, rows);
  rows_.fetch_add(rows, std::memory_order_relaxed);
  broken_.fetch_add(is_broken, std::memory_order_relaxed);
}

bool Head::pays(const int32_t* best, int64_t rows) const {
  return share_[kind_of(best, rows)] * static_cast<float>(rows) < kMostShare;
}

// The share fades, so that the screen is tried again some steps later.
void Head::skip(const int32_t* best, int64_t rows) {
  share_[kind_of(best, rows)] *= 63.0f / 64.0f;
}

void Head::learn(const int32_t* best, int64_t rows) {
  const int64_t panels = panels_.load(std::memory_order_relaxed);
  const float share =
      static_cast<float>(panels - last_panels_) / static_cast<float>(rows * weights_->num_panels());
  float& average = share_[kind_of(best, rows)];
  average += (share - average) / 8.0f;
  last_panels_ = panels;
}

void Head::compute_best(const Part& part, int64_t row) {
  for (auto& entry : best_[static_cast<size_t>(part.step.worker)][row].kept) {
    compute_panel(part, row, entry.row / kPanelRows);
    entry.bound = part.out_of(row).data[entry.row];
  }
}

// The lowest of the `count` best logits that any worker has computed; NaN and too few give -inf,
// which every bound reaches.
float Head::threshold(int64_t row, int32_t count) const {
  std::vector<float> computed;
  for (const auto& worker : best_)
    for (const auto& entry : worker[row].kept)
      computed.push_back(entry.bound == entry.bound ? entry.bound : -kInf);
  if (computed.size() < static_cast<size_t>(count)) return -kInf;
  std::ranges::nth_element(computed, computed.begin() + count - 1, std::greater{});
  return computed[static_cast<size_t>(count) - 1];
}

void Head::settle(const Part& part, int64_t row, float threshold) {
  const LinearOutput out = part.out_of(row);
  const int64_t all = part.panels.end - part.panels.begin;
  const auto most = static_cast<int64_t>(kMostShare * static_cast<float>(all)) + 1;
  int64_t computed = 0;
  for (int64_t panel = part.panels.begin; panel < part.panels.end; ++panel) {
    float* upper = out.data + panel * kPanelRows;
    const int64_t count = std::min<int64_t>(kPanelRows, weights_->rows() - panel * kPanelRows);
    int is_open = 0;
    for (int64_t i = 0; i < count; ++i) is_open |= !(upper[i] < threshold);
    if (is_open == 0) {
      std::fill_n(upper, count, -kInf);
      continue;
    }
    if (++computed > most) break;
    compute_panel(part, row, panel);
  }
  const bool is_wide = computed > most;
  panels_.fetch_add(is_wide ? all : computed, std::memory_order_relaxed);
  if (!is_wide) return;
  wide_.fetch_add(1, std::memory_order_relaxed);
  compute_all(part, row, 1);
}

void Head::compute_panel(const Part& part, int64_t row, int64_t panel) {
  const LinearOutput out = part.out_of(row);
  const int64_t count = std::min<int64_t>(kPanelRows, weights_->rows() - panel * kPanelRows);
  const float* logits = out.data + panel * kPanelRows;
  float upper[kPanelRows];
  std::copy_n(logits, count, upper);
  linear_int8(part.step.plan.isa(), *weights_, row_of(part.x, row), 1, panel, panel + 1, out,
              part.scratch());
  for (int64_t i = 0; i < count; ++i)
    if (!(logits[i] <= upper[i]))
      broken_in_.store(part.step.plan.run_number(), std::memory_order_relaxed);
}

void Head::compute_all(const Part& part, int64_t row, int64_t num_rows) {
  linear_int8(part.step.plan.isa(), *weights_, row_of(part.x, row), num_rows, part.panels.begin,
              part.panels.end, part.out_of(row), part.scratch());
}

HeadCounts Head::counts() const {
  return {rows_.load(), panels_.load(), wide_.load(), broken_.load()};
}

}  // namespace plait
