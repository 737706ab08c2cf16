#include "ops/routed.h"

namespace plait {
namespace {

void grow(Buffer& buffer, int64_t bytes) {
  if (static_cast<int64_t>(buffer.size()) < bytes) buffer = Buffer(static_cast<size_t>(bytes));
}

}  // namespace

void Routed::need(const Need& need) {
  const auto raise = [](int64_t& most, int64_t value) { most = std::max(most, value); };
  raise(most_.top_k, need.top_k);
  raise(most_.experts, need.experts);
  raise(most_.cols, need.cols);
  raise(most_.fine, need.fine);
  raise(most_.inner, need.inner);
  raise(most_.width, need.width);
  most_.int8_inputs |= need.int8_inputs;
  most_.float_inputs |= need.float_inputs;
}

void Routed::reserve(int64_t rows) {
  const int64_t routed = rows * most_.top_k;
  const int64_t floats = static_cast<int64_t>(sizeof(float));
  if (static_cast<int64_t>(order_.size()) < routed) {
    experts_.resize(routed);
    order_.resize(routed);
    weights_.resize(routed);
  }
  first_.resize(most_.experts + 1);
  spans_.reserve(most_.experts);
  grow(gated_, routed * 2 * most_.inner * floats);
  grow(made_, rows * most_.width * floats);
  if (most_.float_inputs) grow(input_.floats, routed * most_.cols * floats);
  if (!most_.int8_inputs) return;
  const int64_t block = static_cast<int64_t>(sizeof(ActBlock));
  grow(input_.blocks, routed * (most_.cols / kFineBlock + most_.fine) * block);
  grow(inner_.blocks, routed * (most_.inner / kFineBlock) * block);
  grow(input_.scales, routed * floats);
  grow(inner_.scales, routed * floats);
}

void Routed::sort(int64_t rows, int top_k, int64_t num_experts) {
  const int64_t routed = rows * top_k;
  std::fill(first_.begin(), first_.begin() + num_experts + 1, 0);
  for (int64_t i = 0; i < routed; ++i) ++first_[experts_[i] + 1];
  spans_.clear();
  for (int64_t e = 0; e < num_experts; ++e) {
    const int64_t begin = first_[e], size = first_[e + 1];
    first_[e + 1] = begin + size;
    if (size > 0) spans_.push_back({static_cast<int32_t>(e), begin, begin + size});
  }
  for (int64_t i = 0; i < routed; ++i) order_[first_[experts_[i]]++] = static_cast<int32_t>(i);
}

}  // namespace plait
