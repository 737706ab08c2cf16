#include "plait/plan.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>

#include "ops/routed.h"

namespace plait {
namespace {

void demand(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

void grow(Buffer& buffer, size_t bytes) {
  if (buffer.size() < bytes) buffer = Buffer(bytes);
}

// One past the last slot that the row at `slot` sees; window.py defines the patterns.
int32_t limit_of(const Window& window, int32_t slot) {
  const int32_t end = window.start + window.num_rows;
  switch (static_cast<Pattern>(window.pattern)) {
    case Pattern::causal:
      return slot + 1;
    case Pattern::block:
      return std::min(end, (slot / window.size + 1) * window.size);
    case Pattern::prefix:
      return std::min(end, std::max(window.size, slot + 1));
    case Pattern::full:
    case Pattern::tree:
      break;
  }
  return reach_of(window);
}

}  // namespace

Plan::Plan(std::vector<int> widths, int result, KvShape kv, bool int8, Isa isa,
           std::shared_ptr<Pool> pool)
    : widths_(std::move(widths)),
      result_(result),
      kv_(kv),
      int8_(int8),
      isa_(isa),
      pool_(std::move(pool)),
      rows_(row_kernels(isa)),
      buffers_(widths_.size()),
      data_(widths_.size()),
      scratch_(pool_->size()) {
  demand(result >= 0 && result < static_cast<int>(widths_.size()), "plan: no such result buffer");
  demand(kv.head_dim % 8 == 0 && kv.head_dim <= kMaxHeadDim,
         "the size of a head must be a multiple of 8 and at most 512");
  for (int width : widths_) demand(width > 0, "plan: an empty buffer");
}

void Plan::check_view(const View& view) const {
  demand(view.buffer >= 0 && view.buffer < static_cast<int>(widths_.size()) && view.offset >= 0 &&
             view.width > 0 && view.offset + view.width <= widths_[view.buffer],
         "plan: a view outside its buffer");
}

int Plan::rope_table(std::vector<float> inverse_frequencies) {
  demand(!inverse_frequencies.empty(), "plan: an empty rotary table");
  ropes_.push_back({std::move(inverse_frequencies), {}});
  return static_cast<int>(ropes_.size()) - 1;
}

const float* Plan::rope_row(int table, int row) const {
  const RopeTable& rope = ropes_[table];
  return rope.rows.data() + static_cast<size_t>(row) * 2 * rope.frequencies.size();
}

void Plan::refine(int op, std::vector<int32_t> blocks) {
  const auto num_blocks = static_cast<int32_t>(energy(op).size());
  for (size_t i = 0; i < blocks.size(); ++i)
    demand(blocks[i] >= (i == 0 ? 0 : blocks[i - 1] + 1) && blocks[i] < num_blocks,
           "refine: blocks of the op's input, ascending");
  most_cols_ = std::max<int64_t>(most_cols_, (num_blocks + blocks.size()) * kFineBlock);
  ops_[op]->refine(std::move(blocks));
}

void Op::center_keys(std::vector<float>, std::vector<float>) {
  throw std::invalid_argument("center_keys: not an attention op");
}

void Plan::center_keys(int op, std::vector<float> mean, std::vector<float> scale) {
  ops_.at(op)->center_keys(std::move(mean), std::move(scale));
}

void Op::unify(std::vector<float>) {
  throw std::invalid_argument("unify: not an attention op");
}

void Plan::unify(int op, std::vector<float> maxima) {
  ops_.at(op)->unify(std::move(maxima));
}

AttentionCounts Plan::attention_counts() const {
  AttentionCounts sum;
  for (const auto& op : ops_) {
    const AttentionCounts counts = op->attention_counts();
    sum.unified += counts.unified, sum.redone += counts.redone;
  }
  return sum;
}

void Plan::check(const Batch& batch, int64_t num_pages_listed, int64_t num_masks) const {
  demand(batch.num_rows > 0, "an empty batch");
  int32_t next = 0;
  for (int i = 0; i < batch.num_windows; ++i) {
    const Window& w = batch.windows[i];
    demand(w.first_row == next && w.num_rows > 0, "windows must cover the rows in order");
    next += w.num_rows;
    demand(next <= batch.num_rows && w.start >= 0, "a window outside the batch");
    demand(w.start <= std::numeric_limits<int32_t>::max() - w.num_rows, "a window without an end");
    demand(w.pattern >= 0 && w.pattern <= static_cast<int32_t>(Pattern::tree), "no such pattern");
    demand(static_cast<Pattern>(w.pattern) != Pattern::block || w.size > 0, "a block of size 0");
    const int64_t pages = (static_cast<int64_t>(reach_of(w)) + kPage - 1) / kPage;
    demand(w.first_page >= 0 && w.first_page + pages <= num_pages_listed, "a window lacks pages");
    for (int64_t p = 0; p < pages; ++p) {
      const int32_t page = batch.pages[w.first_page + p];
      demand(page >= 0 && page < kv_.num_pages, "a page outside the cache");
    }
    const int64_t mask = static_cast<int64_t>(w.num_rows) * w.num_rows;
    demand(w.first_mask < 0 || w.first_mask + mask <= num_masks, "a mask outside its array");
    demand((w.first_mask >= 0) == (static_cast<Pattern>(w.pattern) == Pattern::tree),
           "a tree window, and no other, has a mask");
  }
  demand(next == batch.num_rows, "rows that belong to no window");
  for (int t = 0; t < batch.num_rows; ++t) {
    const bool embedded = batch.embedding_rows && batch.embedding_rows[t] >= 0;
    demand(embedded || (batch.tokens[t] >= 0 && batch.tokens[t] < vocab_),
           "a token id outside the vocabulary");
    demand(batch.positions[t] >= 0, "a negative position");
  }
  for (int r = 0; r < batch.num_wanted; ++r)
    demand(batch.wanted[r] >= 0 && batch.wanted[r] < batch.num_rows,
           "a wanted row outside the batch");
}

void Plan::reserve(const Batch& batch) {
  const size_t rows = static_cast<size_t>(std::max(batch.num_rows, batch.num_wanted));
  for (size_t i = 0; i < widths_.size(); ++i) {
    if (static_cast<int>(i) == result_) {
      data_[i] = batch.out;
      continue;
    }
    grow(buffers_[i], rows * widths_[i] * sizeof(float));
    data_[i] = reinterpret_cast<float*>(buffers_[i].data());
  }
  for (RopeTable& rope : ropes_)
    rope.rows.resize(std::max(rope.rows.size(), rows * 2 * rope.frequencies.size()));
  limits_.resize(std::max(limits_.size(), rows));
  if (routed_) routed_->reserve(static_cast<int64_t>(rows));
  const size_t cells = rows * static_cast<size_t>(most_cols_);
  grow(activations_.floats, cells * sizeof(float));
  if (!int8_) return;
  grow(activations_.blocks, cells / kFineBlock * sizeof(ActBlock));
  grow(activations_.scales, rows * sizeof(float));
}

// What every layer needs of each row: rotary angles and how far it sees.
void Plan::prepare(const Step& step) {
  const Batch& batch = step.batch;
  const Share share = share_of(batch.num_rows, 1, step.worker, pool_->size());
  for (RopeTable& rope : ropes_) {
    const size_t pairs = rope.frequencies.size();
    for (int64_t t = share.begin; t < share.end; ++t) {
      float* row = rope.rows.data() + static_cast<size_t>(t) * 2 * pairs;
      for (size_t i = 0; i < pairs; ++i) {
        // The angle is rounded to float32 first, as in the models' reference implementation.
        const double angle = static_cast<float>(batch.positions[t]) * rope.frequencies[i];
        row[i] = static_cast<float>(std::cos(angle));
        row[pairs + i] = static_cast<float>(std::sin(angle));
      }
    }
  }
  if (step.worker != 0) return;
  for (int i = 0; i < batch.num_windows; ++i) {
    const Window& window = batch.windows[i];
    for (int t = 0; t < window.num_rows; ++t)
      limits_[window.first_row + t] = limit_of(window, window.start + t);
  }
}

HeadCounts Plan::head_counts() const {
  return ops_.empty() ? HeadCounts{} : ops_.back()->head_counts();
}

void Plan::run(const Batch& batch, int first, int last, const View& entry, const View* exit) {
  ++run_number_;
  reserve(batch);
  pool_->run([&](int worker) { work(batch, worker, first, last, entry, exit); });
}

void Plan::work(const Batch& batch, int worker, int first, int last, const View& entry,
                const View* exit) {
  const Step step{batch, *this, worker};
  prepare(step);
  const Share share = share_of(batch.num_rows, 1, worker, pool_->size());
  if (first > 0)
    for (int64_t t = share.begin; t < share.end; ++t)
      std::memcpy(at(entry, t), batch.hidden + t * entry.width, entry.width * sizeof(float));
  pool_->barrier();
  for (int i = first; i < last; ++i) {
    ops_[i]->run(step);
    const bool flows_on = i + 1 < last && ops_[i]->is_row_local() && ops_[i + 1]->is_row_local();
    if (!flows_on) pool_->barrier();
  }
  if (exit != nullptr)
    for (int64_t t = share.begin; t < share.end; ++t)
      std::memcpy(batch.out + t * exit->width, at(*exit, t), exit->width * sizeof(float));
}

}  // namespace plait
