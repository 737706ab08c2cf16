// How a row of activations chooses experts; the twin of src/plait/kernels/reference_moe.py.
#pragma once

#include <cstdint>
#include <vector>

namespace plait {

constexpr int kMostExperts = 4096;

enum class Score { softmax, sigmoid };

struct Routing {
  int top_k = 1;
  Score score = Score::softmax;
  std::vector<float> bias;  // added to the scores for the choice alone; empty for none
  int groups = 1;           // equal groups of experts, of which only `top_groups` take part:
  int top_groups = 1;       // those whose two best add up to most
  bool normalize = false;   // the weights are divided by their sum,
  float scale = 1;          // then multiplied by this
};

// Throws std::invalid_argument unless top_k of `count` experts can be chosen that way.
void check_routing(const Routing& routing, int64_t count);

// The experts of one row, best first, and their weights: [top_k] each. logits: [count]. Of equal
// scores the lower number wins; not-a-number comes last. No expert is chosen twice.
void choose_experts(const Routing& routing, const float* logits, int count, int32_t* experts,
                    float* weights);

}  // namespace plait
