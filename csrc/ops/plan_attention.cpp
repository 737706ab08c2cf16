// The attention op of the plan: store the step's keys and values in their pages, then attend.
//
// A row's result is a fold over chunks of kChunkPages pages in order, each chunk computed from a
// fresh state. The cut is part of the arithmetic, so one thread or many, a long window or a short
// one give the same bits; chunks of a step with few rows are spread over the workers and folded
// afterwards.
#include <algorithm>
#include <atomic>
#include <limits>
#include <stdexcept>

#include "plait/plan.h"

namespace plait {
namespace {

constexpr int kChunkPages = 16;
constexpr int kChunkSlots = kChunkPages * kPage;
constexpr int kMostRows = 48;  // query rows per unit of work

void demand(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

// Query rows [first, first + count) of the batch, all heads of one KV head.
struct Unit {
  int window;
  int kv_head;
  int first;
  int count;
  int first_chunk;
  int num_chunks;
  int64_t state;  // first state of the unit when its chunks are spread, chunk after chunk
};

class AttentionOp final : public Op {
 public:
  AttentionOp(AttentionSpec spec, const KvShape& kv, int num_workers)
      : spec_(spec),
        kv_(kv),
        group_(spec.heads / kv.num_kv_heads),
        state_floats_(2 + kv.head_dim),
        workers_(num_workers) {
    for (Buffer& buffer : workers_)
      buffer = Buffer((2 * kMostRows * state_floats_ + 2 * kPage * kv.head_dim) * sizeof(float));
  }

  void run(const Step& step) override {
    store(step);
    if (step.worker == 0) plan_units(step.batch, step.plan);
    step.plan.pool().barrier();
    for (int i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < num_tasks_;) attend(step, i);
    if (!spread_) return;
    step.plan.pool().barrier();
    fold(step);
  }

 private:
  char* page(const Batch& batch, int32_t number, int kv_head, int value) const {
    const int64_t element = kv_.type == KvType::f32 ? 4 : 2;
    const int64_t index =
        ((static_cast<int64_t>(number) * kv_.num_layers + spec_.layer) * kv_.num_kv_heads +
         kv_head) *
            2 +
        value;
    return static_cast<char*>(batch.kv) + index * kPage * kv_.head_dim * element;
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
        for (int h = 0; h < kv_.num_kv_heads; ++h)
          step.plan.rows().store_kv(step.plan.at(spec_.k, row) + h * kv_.head_dim,
                                    step.plan.at(spec_.v, row) + h * kv_.head_dim, kv_.head_dim,
                                    slot % kPage, kv_.type, page(batch, number, h, 0),
                                    page(batch, number, h, 1));
      }
    }
  }

  int32_t low_of(const Batch& batch, int row) const {
    return spec_.window == 0 ? 0 : std::max(0, batch.positions[row] - spec_.window + 1);
  }

  void plan_units(const Batch& batch, Plan& plan) {
    units_.clear();
    const int rows_per_unit = std::max(1, kMostRows / group_);
    int64_t num_chunks = 0;
    for (int w = 0; w < batch.num_windows; ++w) {
      const Window& window = batch.windows[w];
      for (int first = 0; first < window.num_rows; first += rows_per_unit) {
        const int count = std::min(rows_per_unit, window.num_rows - first);
        int low = std::numeric_limits<int>::max(), high = 0;
        for (int row = window.first_row + first; row < window.first_row + first + count; ++row) {
          low = std::min(low, low_of(batch, row));
          high = std::max(high, plan.limits()[row]);
        }
        const int first_chunk = low / kChunkSlots;
        const int chunks = (high + kChunkSlots - 1) / kChunkSlots - first_chunk;
        for (int h = 0; h < kv_.num_kv_heads; ++h)
          units_.push_back({w, h, window.first_row + first, count, first_chunk, chunks, 0});
        num_chunks += static_cast<int64_t>(chunks) * kv_.num_kv_heads;
      }
    }
    const int64_t units = static_cast<int64_t>(units_.size());
    spread_ = num_chunks > units && units < 4 * plan.pool().size();
    if (spread_) spread_chunks();
    num_tasks_ = static_cast<int>(spread_ ? tasks_.size() : units_.size());
    next_.store(0, std::memory_order_relaxed);
  }

  void spread_chunks() {
    tasks_.clear();
    int64_t states = 0;
    for (size_t u = 0; u < units_.size(); ++u) {
      units_[u].state = states;
      states += static_cast<int64_t>(units_[u].num_chunks) * units_[u].count * group_;
      for (int c = 0; c < units_[u].num_chunks; ++c)
        tasks_.push_back({static_cast<int>(u), units_[u].first_chunk + c});
    }
    const size_t bytes = static_cast<size_t>(states) * state_floats_ * sizeof(float);
    if (states_.size() < bytes) states_ = Buffer(bytes);
  }

  float* spread_state(const Unit& unit, int chunk) {
    const int64_t index =
        unit.state + static_cast<int64_t>(chunk - unit.first_chunk) * unit.count * group_;
    return reinterpret_cast<float*>(states_.data()) + index * state_floats_;
  }

  void attend(const Step& step, int task) {
    float* own = reinterpret_cast<float*>(workers_[step.worker].data());
    float* part = own + kMostRows * state_floats_;
    float* page_scratch = part + kMostRows * state_floats_;
    if (spread_) {
      const Unit& unit = units_[tasks_[task].unit];
      attend_chunk(step, unit, tasks_[task].chunk, spread_state(unit, tasks_[task].chunk),
                   page_scratch);
      return;
    }
    const Unit& unit = units_[task];
    attend_chunk(step, unit, unit.first_chunk, own, page_scratch);
    for (int c = 1; c < unit.num_chunks; ++c) {
      attend_chunk(step, unit, unit.first_chunk + c, part, page_scratch);
      for (int r = 0; r < unit.count * group_; ++r)
        step.plan.rows().merge_states(own + r * state_floats_, part + r * state_floats_,
                                      kv_.head_dim);
    }
    write_out(step, unit, own);
  }

  void attend_chunk(const Step& step, const Unit& unit, int chunk, float* states, float* scratch) {
    const Batch& batch = step.batch;
    const Window& window = batch.windows[unit.window];
    const void* k_pages[kChunkPages];
    const void* v_pages[kChunkPages];
    const float* queries[kMostRows];
    const uint8_t* masks[kMostRows];
    int32_t low[kMostRows], high[kMostRows];
    float* state_of[kMostRows];
    const int total_pages = (window.start + window.num_rows + kPage - 1) / kPage;
    const int first_page = chunk * kChunkPages;
    const int num_pages = std::min(kChunkPages, total_pages - first_page);
    for (int p = 0; p < num_pages; ++p) {
      const int32_t number = batch.pages[window.first_page + first_page + p];
      k_pages[p] = page(batch, number, unit.kv_head, 0);
      v_pages[p] = page(batch, number, unit.kv_head, 1);
    }
    int r = 0;
    for (int row = unit.first; row < unit.first + unit.count; ++row) {
      for (int g = 0; g < group_; ++g, ++r) {
        queries[r] = step.plan.at(spec_.q, row) + (unit.kv_head * group_ + g) * kv_.head_dim;
        low[r] = low_of(batch, row);
        high[r] = step.plan.limits()[row];
        masks[r] = window.first_mask < 0
                       ? nullptr
                       : batch.masks + window.first_mask +
                             static_cast<int64_t>(row - window.first_row) * window.num_rows;
        state_of[r] = states + r * state_floats_;
      }
    }
    step.plan.rows().attention({k_pages, v_pages, num_pages, first_page * kPage, kv_.type,
                                kv_.head_dim, spec_.scale, r, queries, low, high,
                                window.first_mask < 0 ? nullptr : masks, window.start, state_of,
                                scratch});
  }

  void fold(const Step& step) {
    const int workers = step.plan.pool().size();
    for (size_t u = step.worker; u < units_.size(); u += workers) {
      const Unit& unit = units_[u];
      float* total = spread_state(unit, unit.first_chunk);
      for (int c = 1; c < unit.num_chunks; ++c) {
        const float* part = spread_state(unit, unit.first_chunk + c);
        for (int r = 0; r < unit.count * group_; ++r)
          step.plan.rows().merge_states(total + r * state_floats_, part + r * state_floats_,
                                        kv_.head_dim);
      }
      write_out(step, unit, total);
    }
  }

  void write_out(const Step& step, const Unit& unit, const float* states) {
    for (int r = 0; r < unit.count * group_; ++r) {
      const float* state = states + r * state_floats_;
      float* out = step.plan.at(spec_.output, unit.first + r / group_) +
                   (unit.kv_head * group_ + r % group_) * kv_.head_dim;
      // A row that sees nothing at all (an empty tree mask) attends to nothing.
      const float total = state[1] > 0 ? state[1] : 1.0f;
      for (int d = 0; d < kv_.head_dim; ++d) out[d] = state[2 + d] / total;
    }
  }

  struct Task {
    int unit;
    int chunk;
  };

  AttentionSpec spec_;
  KvShape kv_;
  int group_;
  int state_floats_;
  std::vector<Buffer> workers_;
  std::vector<Unit> units_;
  std::vector<Task> tasks_;
  Buffer states_;
  bool spread_ = false;
  int num_tasks_ = 0;
  std::atomic<int> next_{0};
};

}  // namespace

void Plan::attention(AttentionSpec spec) {
  for (const View& view : {spec.q, spec.k, spec.v, spec.output}) check_view(view);
  demand(spec.heads > 0 && spec.heads % kv_.num_kv_heads == 0 &&
             spec.heads / kv_.num_kv_heads <= kMostRows,
         "attention: heads must be a multiple of the KV heads, at most 48 of them to each");
  demand(spec.q.width == spec.heads * kv_.head_dim && spec.output.width == spec.q.width &&
             spec.k.width == kv_.num_kv_heads * kv_.head_dim && spec.v.width == spec.k.width,
         "attention: widths differ");
  demand(spec.layer >= 0 && spec.layer < kv_.num_layers && spec.window >= 0,
         "attention: no such layer");
  push(std::make_unique<AttentionOp>(spec, kv_, pool_->size()));
}

}  // namespace plait
