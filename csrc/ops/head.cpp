#include "ops/head.h"

#include <algorithm>
#include <limits>

namespace plait {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// With a larger share of panels computed the whole product is faster: one by one they cost more
// than in a row, and the screen has cost half of the product.
constexpr float kMostShare = 0.25f;

// The same for a step's rows: the share that each of them may have computed. Two rows or more are
// multiplied together in the whole product, but one by one here. Without any no search costs
// anything.
float most_share(int64_t rows) {
  if (rows == 0) return kInf;
  return rows == 1 ? kMostShare : kMostShare / 2;
}

// Which of Head::share_ counts: rows that need one logit, or more, and may choose all, or some.
int kind_of(const Batch& batch) {
  const auto is_more = [](int32_t count) { return count > 1; };
  const bool wants_more = std::any_of(batch.best, batch.best + batch.num_wanted, is_more);
  return wants_more + 2 * (batch.allowed != nullptr);
}

const uint32_t* allowed_of(const Batch& batch, int64_t row) {
  return batch.allowed == nullptr ? nullptr : batch.allowed[row];
}

// A bit for each row of a panel that may be chosen.
uint32_t allowed_in(const uint32_t* allowed, int64_t panel) {
  static_assert(kPanelRows == 8);
  return allowed == nullptr ? 0xFF : allowed[panel / 4] >> panel % 4 * 8 & 0xFF;
}

// Whether any bound is not below the threshold; without a branch, so that it becomes vectors.
inline bool any_reaches(const float* upper, int64_t count, float threshold) {
  int32_t found = 0;
  for (int64_t i = 0; i < count; ++i) found |= !(upper[i] < threshold);
  return found != 0;
}

// The same of those that may be chosen, a bit for each.
bool any_chosen_reaches(const float* upper, int64_t count, float threshold, uint32_t chosen) {
  uint32_t found = 0;
  for (int64_t i = 0; i < count; ++i) found |= chosen >> i & !(upper[i] < threshold);
  return found != 0;
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

void BestRows::start(int new_count, const uint32_t* new_allowed) {
  count = static_cast<size_t>(new_count);
  allowed = new_allowed;
  floor = -kInf;
  kept.clear();
}

void BestRows::offer(float bound, int64_t row) {
  if (allowed != nullptr && (allowed[row / 32] >> row % 32 & 1) == 0) return;
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
    : weights_(std::move(weights)), own_(static_cast<size_t>(workers)) {}

void Head::run(const Step& step, const QuantizedRows& x, const LinearOutput& out) {
  Plan& plan = step.plan;
  const Batch& batch = step.batch;
  const Part part{step, x, out,
                  share_of(weights_->num_panels(), 1, step.worker, plan.pool().size())};
  const Own& own = own_[static_cast<size_t>(step.worker)];
  const int64_t searched = own.num_searched;
  if (searched > 0) screen(part);
  for (int64_t row = 0; row < batch.num_wanted; ++row)
    if (own.is_narrow[row]) compute_allowed(part, row);
  if (searched > 0) {
    plan.pool().barrier();
    for (int64_t row = 0; row < batch.num_wanted; ++row)
      if (!own.is_narrow[row]) settle(part, row, threshold(row, batch.best[row]));
    plan.pool().barrier();
  }
  const bool is_broken = broken_in_.load(std::memory_order_relaxed) == plan.run_number();
  if (is_broken) compute_all(part, 0, batch.num_wanted);
  if (step.worker != 0) return;
  if (searched > 0) learn(batch, searched);
  rows_.fetch_add(searched, std::memory_order_relaxed);
  narrow_.fetch_add(batch.num_wanted - searched, std::memory_order_relaxed);
  broken_.fetch_add(is_broken, std::memory_order_relaxed);
}

// Bounds of every logit; those of the best are computed.
void Head::screen(const Part& part) {
  const Batch& batch = part.step.batch;
  const int64_t rows = batch.num_wanted;
  Own& own = own_[static_cast<size_t>(part.step.worker)];
  own.best.resize(std::max(own.best.size(), static_cast<size_t>(rows)));
  for (int64_t row = 0; row < rows; ++row)
    own.best[row].start(batch.best[row], allowed_of(batch, row));
  screen_int8(part.step.plan.isa(), *weights_, part.x, rows, part.panels.begin, part.panels.end,
              part.out, part.scratch(), own.best.data());
  for (int64_t row = 0; row < rows; ++row)
    if (!own.is_narrow[row]) compute_best(part, row);
}

// Whether the panels that hold what a row may choose are so few that all rows like it cost no more
// than a search may.
bool Head::is_narrow(const Batch& batch, int64_t row) const {
  const uint32_t* allowed = allowed_of(batch, row);
  if (allowed == nullptr) return false;
  const int64_t all = weights_->num_panels();
  const auto most =
      static_cast<int64_t>(kMostShare * static_cast<float>(all)) / std::max(1, batch.num_wanted);
  int64_t count = 0;
  for (int64_t panel = 0; panel < all && count <= most; ++panel) {
    if (panel % 4 == 0 && allowed[panel / 4] == 0)
      panel += 3;
    else
      count += allowed_in(allowed, panel) != 0;
  }
  return count <= most;
}

bool Head::pays(const Step& step) {
  const Batch& batch = step.batch;
  Own& own = own_[static_cast<size_t>(step.worker)];
  own.is_narrow.clear();
  for (int64_t row = 0; row < batch.num_wanted; ++row)
    own.is_narrow.push_back(is_narrow(batch, row));
  own.num_searched = std::ranges::count(own.is_narrow, false);
  return share_[kind_of(batch)] < most_share(own.num_searched);
}

// The share fades, so that the screen is tried again some steps later.
void Head::skip(const Batch& batch) {
  share_[kind_of(batch)] *= 63.0f / 64.0f;
}

void Head::learn(const Batch& batch, int64_t searched) {
  const int64_t panels = panels_.load(std::memory_order_relaxed);
  const float share = static_cast<float>(panels - last_panels_) /
                      static_cast<float>(searched * weights_->num_panels());
  float& average = share_[kind_of(batch)];
  average += (share - average) / 8.0f;
  last_panels_ = panels;
}

void Head::compute_best(const Part& part, int64_t row) {
  for (auto& entry : own_[static_cast<size_t>(part.step.worker)].best[row].kept) {
    compute_panel(part, row, entry.row / kPanelRows);
    entry.bound = part.out_of(row).data[entry.row];
  }
}

// The lowest of the `count` best logits that any worker has computed; NaN and too few give -inf,
// which every bound reaches.
float Head::threshold(int64_t row, int32_t count) const {
  std::vector<float> computed;
  for (const auto& worker : own_)
    for (const auto& entry : worker.best[row].kept)
      computed.push_back(entry.bound == entry.bound ? entry.bound : -kInf);
  if (computed.size() < static_cast<size_t>(count)) return -kInf;
  std::ranges::nth_element(computed, computed.begin() + count - 1, std::greater{});
  return computed[static_cast<size_t>(count) - 1];
}

void Head::settle(const Part& part, int64_t row, float threshold) {
  const LinearOutput out = part.out_of(row);
  const uint32_t* allowed = allowed_of(part.step.batch, row);
  const int64_t all = part.panels.end - part.panels.begin;
  const auto most = static_cast<int64_t>(kMostShare * static_cast<float>(all)) + 1;
  int64_t computed = 0;
  for (int64_t panel = part.panels.begin; panel < part.panels.end; ++panel) {
    float* upper = out.data + panel * kPanelRows;
    const int64_t count = std::min<int64_t>(kPanelRows, weights_->rows() - panel * kPanelRows);
    const uint32_t chosen = allowed_in(allowed, panel);
    const bool is_open = chosen == 0xFF && count == kPanelRows
                             ? any_reaches(upper, kPanelRows, threshold)
                             : any_chosen_reaches(upper, count, threshold, chosen);
    if (!is_open) {
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

// The panels that hold what the row may choose; panels side by side in one go.
void Head::compute_allowed(const Part& part, int64_t row) {
  const LinearOutput out = part.out_of(row);
  const uint32_t* allowed = allowed_of(part.step.batch, row);
  std::fill(out.data + part.panels.begin * kPanelRows,
            out.data + std::min(part.panels.end * kPanelRows, weights_->rows()), -kInf);
  for (int64_t panel = part.panels.begin; panel < part.panels.end; ++panel) {
    if (allowed_in(allowed, panel) == 0) continue;
    const int64_t first = panel;
    while (panel + 1 < part.panels.end && allowed_in(allowed, panel + 1) != 0) ++panel;
    linear_int8(part.step.plan.isa(), *weights_, row_of(part.x, row), 1, first, panel + 1, out,
                part.scratch());
  }
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
  return {rows_.load(), panels_.load(), wide_.load(), broken_.load(), narrow_.load()};
}

}  // namespace plait
