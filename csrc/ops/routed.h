// Rows sorted by the experts that they chose, and the memory that all sparse ops of a plan share.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "plait/linear.h"

namespace plait {

// A batch's rows times their experts ("routed rows"), those of one expert side by side.
class Routed {
 public:
  // Sizes of an op that will use this; the largest of all counts.
  struct Need {
    int64_t top_k, experts, cols, fine, inner, width;
    bool int8_inputs, float_inputs;
  };
  void need(const Need& need);
  // Grows to what a batch of so many rows needs.
  void reserve(int64_t rows);

  // [rows][top_k], as chosen.
  int32_t* experts(int64_t row, int top_k) { return experts_.data() + row * top_k; }
  float* weights(int64_t row, int top_k) { return weights_.data() + row * top_k; }

  // Sorts what the rows chose; the order within an expert is that of the rows.
  void sort(int64_t rows, int top_k, int64_t num_experts);

  struct Span {
    int32_t expert;
    int64_t begin, end;  // of routed rows
    int64_t size() const { return end - begin; }
  };
  const std::vector<Span>& spans() const { return spans_; }
  int64_t row_of(int64_t routed, int top_k) const { return order_[routed] / top_k; }
  float weight_of(int64_t routed) const { return weights_[order_[routed]]; }

  // Activations before the first and before the second matrix, by routed row.
  struct Activations {
    Buffer blocks, scales, floats;
  };
  Activations& input() { return input_; }
  // Quantised; their floats are the first half of gated().
  Activations& inner() { return inner_; }
  // [routed rows][2 * inner]: gate and up.
  float* gated() { return reinterpret_cast<float*>(gated_.data()); }
  // [rows][width]: what one expert made of its rows.
  float* made() { return reinterpret_cast<float*>(made_.data()); }

 private:
  Need most_{};
  std::vector<int32_t> experts_, order_;
  std::vector<int64_t> first_;
  std::vector<float> weights_;
  std::vector<Span> spans_;
  Activations input_, inner_;
  Buffer gated_, made_;
};

}  // namespace plait
