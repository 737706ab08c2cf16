// The attention op of the plan: store the step's keys and values in their pages, then attend, unit
// by unit of the step's schedule.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "attention_schedule.h"
#include "plait/plan.h"

namespace plait {
namespace {

void demand(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

// The keys and values of one KV head, in pages side by side.
struct Parts {
  const void* k[kChunkPages];
  const void* v[kChunkPages];
  int count;
};

// The members of a unit as the kernel takes them, `group` rows each.
struct UnitRows {
  int32_t members[kMostAttentionRows];
  const float* queries[kMostAttentionRows];
  float maxima[kMostAttentionRows];
  const uint8_t* masks[kMostAttentionRows];
  int32_t mask_starts[kMostAttentionRows];
  int32_t low[kMostAttentionRows], high[kMostAttentionRows];
  float* states[kMostAttentionRows];
  Parts next;  // what this thread is likely to attend next
};

// Members [first, last) of a unit, pages [page, end) of their tables.
struct Span {
  int first, last, page, end;
};

class AttentionOp final : public Op {
 public:
  AttentionOp(AttentionSpec spec, const KvShape& kv, std::shared_ptr<AttentionSchedule> schedule)
      : spec_(spec),
        kv_(kv),
        group_(spec.heads / kv.num_kv_heads),
        state_floats_(state_floats(kv.head_dim)),
        schedule_(std::move(schedule)) {}

  void center_keys(std::vector<float> mean, std::vector<float> scale) override {
    const auto columns = static_cast<size_t>(kv_.num_kv_heads) * kv_.head_dim;
    demand(mean.size() == columns && scale.size() == columns,
           "center_keys: one number per column of the keys");
    for (const float value : scale) demand(value > 0, "center_keys: scales must be positive");
    mean_ = std::move(mean);
    scale_ = std::move(scale);
    inverse_.resize(columns);
    for (size_t i = 0; i < columns; ++i) inverse_[i] = 1.0f / scale_[i];
  }

  void unify(std::vector<float> maxima) override {
    demand(maxima.empty() || maxima.size() == static_cast<size_t>(spec_.heads),
           "unify: one maximum per query head, or none");
    for (const float value : maxima) demand(std::isfinite(value), "unify: maxima must be finite");
    maxima_ = std::move(maxima);
  }

  std::vector<float> maxima() const override {
    std::vector<float> means(spec_.heads, 0.0f);
    for (int h = 0; h < spec_.heads; ++h) {
      int count = 0;
      for (size_t i = h; i < watched_.size(); i += spec_.heads)
        if (std::isfinite(watched_[i])) means[h] += watched_[i], ++count;
      means[h] /= static_cast<float>(std::max(1, count));
    }
    return means;
  }

  AttentionCounts attention_counts() const override { return {unified_.load(), redone_.load()}; }

  void run(const Step& step) override {
    store(step);
    if (step.worker == 0) prepare(step);
    step.plan.pool().barrier();
    const int num_units = static_cast<int>(schedule_->units().size());
    for (int i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < num_units;) attend(step, i);
    if (schedule_->folded().empty()) return;
    step.plan.pool().barrier();
    fold(step);
  }

 private:
  void prepare(const Step& step) {
    schedule_->prepare(step.batch, step.plan.limits(), step.plan.run_number());
    const size_t bytes = schedule_->num_states() * state_floats_ * sizeof(float);
    Buffer& states = step.plan.attention_memory().states;
    if (states.size() < bytes) states = Buffer(bytes);
    next_.store(0, std::memory_order_relaxed);
    if (step.plan.is_watching())
      watched_.assign(static_cast<size_t>(step.batch.num_rows) * spec_.heads, 0.0f);
  }

  char* page(const Batch& batch, int32_t number, int kv_head, int value) const {
    const int64_t layer = static_cast<int64_t>(number) * kv_.num_layers + spec_.layer;
    const int64_t part = (layer * kv_.num_kv_heads + kv_head) * 2 + value;
    return static_cast<char*>(batch.kv) + part * page_part_bytes(kv_.type, kv_.head_dim);
  }

  void store(const Step& step) {
    const Batch& batch = step.batch;
    const Share share = share_of(batch.num_rows, 1, step.worker, step.plan.pool().size());
    for (int w = 0; w < batch.num_windows; ++w) {
      const Window& window = batch.windows[w];
      const int64_t begin = std::max<int64_t>(share.begin, window.first_row);
      const int64_t end = std::min<int64_t>(share.end, window.first_row + window.num_rows);
      for (int64_t row = begin; row < end; ++row) {
        const int slot = window.start + static_cast<int>(row - window.first_row);
        const int32_t number = batch.pages[window.first_page + slot / kPage];
        if (!mean_.empty()) center(step, row);
        for (int h = 0; h < kv_.num_kv_heads; ++h)
          step.plan.rows().store_kv(step.plan.at(spec_.k, row) + h * kv_.head_dim,
                                    step.plan.at(spec_.v, row) + h * kv_.head_dim, kv_.head_dim,
                                    slot % kPage, kv_.type, page(batch, number, h, 0),
                                    page(batch, number, h, 1));
      }
    }
  }

  // In place: nobody else reads the row's key, and its query only after the barrier.
  void center(const Step& step, int64_t row) const {
    float* k = step.plan.at(spec_.k, row);
    for (size_t i = 0; i < mean_.size(); ++i) k[i] = (k[i] - mean_[i]) * inverse_[i];
    for (int h = 0; h < spec_.heads; ++h) {
      float* q = step.plan.at(spec_.q, row) + h * kv_.head_dim;
      const float* scale = scale_.data() + h / group_ * kv_.head_dim;
      for (int d = 0; d < kv_.head_dim; ++d) q[d] *= scale[d];
    }
  }

  void attend(const Step& step, int number) {
    const AttentionUnit& unit = schedule_->units()[number];
    float* own = own_memory(step);
    float* part = own + kMostAttentionRows * state_floats_;
    UnitRows rows;
    read_rows(step, unit, rows);
    read_next(step, number, 0, rows.next);
    if (!unit.folds) {
      for (int r = 0; r < unit.count * group_; ++r)
        rows.states[r] = state_of(step, rows.members[r / group_], unit.first_chunk, unit.kv_head) +
                         r % group_ * state_floats_;
      attend_chunk(step, unit, unit.first_chunk, rows);
      return;
    }
    place_states(rows, unit, own);
    attend_chunk(step, unit, unit.first_chunk, rows);
    place_states(rows, unit, part);
    for (int c = 1; c < unit.num_chunks; ++c) {
      read_next(step, number, c, rows.next);
      attend_chunk(step, unit, unit.first_chunk + c, rows);
      for (int r = 0; r < unit.count * group_; ++r)
        step.plan.rows().merge_states(own + r * state_floats_, rows.states[r], kv_.head_dim);
    }
    for (int i = 0; i < unit.count; ++i)
      write_out(step, rows.members[i], unit.kv_head, own + i * group_ * state_floats_);
  }

  // Where this worker is likely to go on after a chunk of a unit: the next one, or, for threads
  // take turns more or less, the first of another unit.
  void read_next(const Step& step, int number, int chunk, Parts& next) const {
    const std::vector<AttentionUnit>& units = schedule_->units();
    const bool stays = chunk + 1 < units[number].num_chunks;
    const auto after = static_cast<size_t>(stays ? number : number + step.plan.pool().size());
    const AttentionUnit& unit = units[std::min(after, units.size() - 1)];
    const int32_t member = schedule_->members()[unit.first + unit.count - 1];  // ends last
    const Window& window = step.batch.windows[schedule_->row(member).window];
    const int first = (unit.first_chunk + (stays ? chunk + 1 : 0)) * kChunkPages;
    const int count = std::min(kChunkPages, pages_of(window) - first);
    next.count = 0;
    if (count <= 0) return;
    read_pages(step, unit.kv_head, step.batch.pages + window.first_page + first, count, next);
  }

  void read_pages(const Step& step, int kv_head, const int32_t* numbers, int count,
                  Parts& parts) const {
    parts.count = count;
    for (int p = 0; p < count; ++p) {
      parts.k[p] = page(step.batch, numbers[p], kv_head, 0);
      parts.v[p] = page(step.batch, numbers[p], kv_head, 1);
    }
  }

  void place_states(UnitRows& rows, const AttentionUnit& unit, float* states) const {
    for (int r = 0; r < unit.count * group_; ++r) rows.states[r] = states + r * state_floats_;
  }

  void read_rows(const Step& step, const AttentionUnit& unit, UnitRows& rows) const {
    const Batch& batch = step.batch;
    int r = 0;
    for (int i = 0; i < unit.count; ++i) {
      const int32_t flat = rows.members[i] = schedule_->members()[unit.first + i];
      const AttentionRow& row = schedule_->row(flat);
      const Window& window = batch.windows[row.window];
      const int64_t mask = static_cast<int64_t>(flat - window.first_row) * window.num_rows;
      for (int g = 0; g < group_; ++g, ++r) {
        if (!maxima_.empty()) rows.maxima[r] = maxima_[unit.kv_head * group_ + g];
        rows.queries[r] = step.plan.at(spec_.q, flat) + (unit.kv_head * group_ + g) * kv_.head_dim;
        rows.low[r] = row.low;
        rows.high[r] = row.high;
        rows.masks[r] = window.first_mask < 0 ? nullptr : batch.masks + window.first_mask + mask;
        rows.mask_starts[r] = window.start;
      }
    }
  }

  void attend_chunk(const Step& step, const AttentionUnit& unit, int chunk, const UnitRows& rows) {
    const Span all{0, unit.count, chunk * kChunkPages, (chunk + 1) * kChunkPages};
    start_states(rows, all);
    attend_pages(step, unit.kv_head, rows, all, !maxima_.empty());
    if (!maxima_.empty()) settle(step, unit.kv_head, rows, all);
  }

  void start_states(const UnitRows& rows, const Span& span) const {
    for (int r = span.first * group_; r < span.last * group_; ++r) {
      std::memset(rows.states[r], 0, state_floats_ * sizeof(float));
      rows.states[r][kv_.head_dim] = -std::numeric_limits<float>::infinity();
    }
  }

  // After the unified form: members with a sum out of range are computed again in the online form.
  // That hangs on the member's own scores in this chunk alone, whoever shares the unit.
  void settle(const Step& step, int kv_head, const UnitRows& rows, Span span) {
    const int begin = span.page * kPage, end = span.end * kPage, last = span.last;
    int64_t redone = 0;
    for (int i = 0; i < last; ++i) {
      bool is_fine = true;
      for (int r = i * group_; r < (i + 1) * group_; ++r)
        is_fine = is_fine && is_in_range(rows.states[r][kv_.head_dim + 1]);
      if (is_fine) continue;
      span.first = i, span.last = i + 1;
      start_states(rows, span);
      if (rows.low[i * group_] >= end || rows.high[i * group_] <= begin) continue;  // sees nothing
      attend_pages(step, kv_head, rows, span, false);
      ++redone;
    }
    unified_.fetch_add(last, std::memory_order_relaxed);
    redone_.fetch_add(redone, std::memory_order_relaxed);
  }

  const Window& window_of(const Step& step, const UnitRows& rows, int member) const {
    return step.batch.windows[schedule_->row(rows.members[member]).window];
  }

  // The page's number in the table of a member, -1 behind its end.
  int32_t number_of(const Step& step, const UnitRows& rows, int member, int page) const {
    const Window& window = window_of(step, rows, member);
    return page < pages_of(window) ? step.batch.pages[window.first_page + page] : -1;
  }

  // A span of members and pages: as far as their tables agree all together, then each part that
  // goes on alike by itself. Members whose tables end lie in front.
  void attend_pages(const Step& step, int kv_head, const UnitRows& rows, const Span& span,
                    bool is_unified) {
    auto [first, last, page, end] = span;
    while (first < last && number_of(step, rows, first, page) < 0) ++first;
    if (first == last || page == end) return;
    int stop = page;
    while (stop < end && agree(step, rows, first, last, stop)) ++stop;
    if (stop > page) {
      attend_run(step, kv_head, rows, {first, last, page, stop}, is_unified);
      attend_pages(step, kv_head, rows, {first, last, stop, end}, is_unified);
      return;
    }
    for (int next; first < last; first = next) {
      next = first + 1;
      while (next < last && agree(step, rows, first, next + 1, page)) ++next;
      attend_pages(step, kv_head, rows, {first, next, page, end}, is_unified);
    }
  }

  bool agree(const Step& step, const UnitRows& rows, int first, int last, int page) const {
    const int32_t number = number_of(step, rows, first, page);
    for (int i = first + 1; i < last; ++i)
      if (number_of(step, rows, i, page) != number) return false;
    return number >= 0;
  }

  void attend_run(const Step& step, int kv_head, const UnitRows& rows, const Span& span,
                  bool is_unified) {
    const Window& window = window_of(step, rows, span.first);
    Parts parts;
    read_pages(step, kv_head, step.batch.pages + window.first_page + span.page,
               span.end - span.page, parts);
    float* scratch = own_memory(step) + 2 * kMostAttentionRows * state_floats_;
    const int r = span.first * group_;
    step.plan.rows().attention({parts.k, parts.v, parts.count, rows.next.k, rows.next.v,
                                rows.next.count, span.page * kPage, kv_.type, kv_.head_dim,
                                spec_.scale, (span.last - span.first) * group_, rows.queries + r,
                                rows.low + r, rows.high + r, rows.masks + r, rows.mask_starts + r,
                                rows.states + r, scratch, is_unified ? rows.maxima + r : nullptr});
  }

  // Of this worker: states of a unit's rows, of one chunk of it, and what the kernel needs.
  static float* own_memory(const Step& step) {
    return reinterpret_cast<float*>(step.plan.attention_memory().workers[step.worker].data());
  }

  // The states of one KV head's query heads, chunk by chunk and head by head.
  float* state_of(const Step& step, int32_t flat, int chunk, int kv_head) const {
    const AttentionRow& row = schedule_->row(flat);
    const int64_t index =
        row.state + ((chunk - row.first_chunk) * kv_.num_kv_heads + kv_head) * group_;
    return reinterpret_cast<float*>(step.plan.attention_memory().states.data()) +
           index * state_floats_;
  }

  void fold(const Step& step) {
    const int64_t count = static_cast<int64_t>(schedule_->folded().size()) * kv_.num_kv_heads;
    const Share share = share_of(count, 1, step.worker, step.plan.pool().size());
    for (int64_t i = share.begin; i < share.end; ++i) {
      const int32_t flat = schedule_->folded()[i / kv_.num_kv_heads];
      const int kv_head = static_cast<int>(i % kv_.num_kv_heads);
      const AttentionRow& row = schedule_->row(flat);
      float* total = state_of(step, flat, row.first_chunk, kv_head);
      for (int c = 1; c < row.num_chunks; ++c) {
        const float* part = state_of(step, flat, row.first_chunk + c, kv_head);
        for (int g = 0; g < group_; ++g)
          step.plan.rows().merge_states(total + g * state_floats_, part + g * state_floats_,
                                        kv_.head_dim);
      }
      write_out(step, flat, kv_head, total);
    }
  }

  void write_out(const Step& step, int32_t flat, int kv_head, const float* states) {
    for (int g = 0; g < group_; ++g) {
      const float* state = states + g * state_floats_;
      if (step.plan.is_watching())
        watched_[static_cast<size_t>(flat) * spec_.heads + kv_head * group_ + g] =
            state[kv_.head_dim];
      float* out = step.plan.at(spec_.output, flat) + (kv_head * group_ + g) * kv_.head_dim;
      // A row that sees nothing at all (an empty tree mask) attends to nothing.
      const float sum = state[kv_.head_dim + 1];
      const float total = sum > 0 ? sum : 1.0f;
      for (int d = 0; d < kv_.head_dim; ++d) out[d] = state[d] / total;
    }
  }

  AttentionSpec spec_;
  KvShape kv_;
  int group_;
  int state_floats_;
  std::shared_ptr<AttentionSchedule> schedule_;
  std::vector<float> mean_, scale_, inverse_;  // of the keys' columns; empty: stored as they are
  std::vector<float> maxima_;   // of the unified form, one per query head; empty: the online form
  std::vector<float> watched_;  // the maximum of every row and head of the last run watched
  std::atomic<int64_t> unified_{0}, redone_{0};
  std::atomic<int> next_{0};
};

}  // namespace

void Plan::attention(AttentionSpec spec) {
  for (const View& view : {spec.q, spec.k, spec.v, spec.output}) check_view(view);
  demand(spec.heads > 0 && spec.heads % kv_.num_kv_heads == 0 &&
             spec.heads / kv_.num_kv_heads <= kMostAttentionRows,
         "attention: heads must be a multiple of the KV heads, at most 48 of them to each");
  demand(spec.q.width == spec.heads * kv_.head_dim && spec.output.width == spec.q.width &&
             spec.k.width == kv_.num_kv_heads * kv_.head_dim && spec.v.width == spec.k.width,
         "attention: widths differ");
  demand(spec.layer >= 0 && spec.layer < kv_.num_layers && spec.window >= 0,
         "attention: no such layer");
  std::vector<Buffer>& workers = attention_memory_.workers;
  const int floats = 2 * kMostAttentionRows * state_floats(kv_.head_dim) + 2 * kPage * kv_.head_dim;
  while (workers.size() < static_cast<size_t>(pool_->size()))
    workers.emplace_back(floats * sizeof(float));
  push(std::make_unique<AttentionOp>(spec, kv_,
                                     schedule_for(spec.window, spec.heads / kv_.num_kv_heads)));
}

// Layers that cut a batch alike share the cut.
std::shared_ptr<AttentionSchedule> Plan::schedule_for(int window, int group) {
  for (const auto& schedule : schedules_)
    if (schedule->is_for(window, group)) return schedule;
  schedules_.push_back(
      std::make_shared<AttentionSchedule>(window, group, kv_.num_kv_heads, pool_->size()));
  return schedules_.back();
}

}  // namespace plait
