#include "plait/routing.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace plait {
namespace {

constexpr double kNever = -std::numeric_limits<double>::infinity();  // out of the running
constexpr double kLeast = std::numeric_limits<double>::lowest();
constexpr double kSmallestSum = 1e-20;

void score_all(const Routing& routing, const float* logits, int count, double* scores) {
  if (routing.score == Score::sigmoid) {
    for (int e = 0; e < count; ++e) scores[e] = 1.0 / (1.0 + std::exp(-double{logits[e]}));
    return;
  }
  double largest = kNever, total = 0;
  for (int e = 0; e < count; ++e) largest = std::max(largest, double{logits[e]});
  for (int e = 0; e < count; ++e) total += scores[e] = std::exp(logits[e] - largest);
  for (int e = 0; e < count; ++e) scores[e] /= total;
}

// What anything still in the running ranks at: more than kNever, whatever the activations were.
double in_running(double value) {
  return value >= kLeast ? value : kLeast;  // not-a-number too
}

// The first of the largest, which is then out of the running.
int take_best(double* values, int count) {
  int best = 0;
  for (int i = 1; i < count; ++i)
    if (values[i] > values[best]) best = i;
  values[best] = kNever;
  return best;
}

double two_best(const double* values, int count) {
  double first = kNever, second = kNever;
  for (int i = 0; i < count; ++i) {
    second = std::max(second, std::min(first, values[i]));
    first = std::max(first, values[i]);
  }
  return first + second;
}

void limit_to_groups(const Routing& routing, double* ranked, int count) {
  const int size = count / routing.groups;
  double sums[kMostExperts];
  bool taken[kMostExperts] = {};
  for (int g = 0; g < routing.groups; ++g) sums[g] = in_running(two_best(ranked + g * size, size));
  for (int i = 0; i < routing.top_groups; ++i) taken[take_best(sums, routing.groups)] = true;
  for (int e = 0; e < count; ++e)
    if (!taken[e / size]) ranked[e] = kNever;
}

}  // namespace

void check_routing(const Routing& routing, int64_t count) {
  const auto demand = [](bool condition) {
    if (!condition) throw std::invalid_argument("moe: so many experts cannot be chosen");
  };
  demand(count >= 1 && count <= kMostExperts && routing.top_k >= 1 && routing.groups >= 1 &&
         routing.top_groups >= 1 && routing.top_groups <= routing.groups);
  const int64_t size = count / routing.groups;
  demand(count % routing.groups == 0 && routing.top_k <= size * routing.top_groups &&
         (routing.groups == 1 || size >= 2) &&
         (routing.bias.empty() || static_cast<int64_t>(routing.bias.size()) == count));
}

void choose_experts(const Routing& routing, const float* logits, int count, int32_t* experts,
                    float* weights) {
  double scores[kMostExperts], ranked[kMostExperts];
  score_all(routing, logits, count, scores);
  for (int e = 0; e < count; ++e) {
    const double bias = routing.bias.empty() ? 0.0 : routing.bias[e];
    ranked[e] = in_running(scores[e] + bias);
  }
  if (routing.groups > 1) limit_to_groups(routing, ranked, count);
  double total = 0;
  for (int k = 0; k < routing.top_k; ++k) {
    experts[k] = take_best(ranked, count);
    total += scores[experts[k]];
  }
  const double divisor = routing.normalize ? total + kSmallestSum : 1.0;
  for (int k = 0; k < routing.top_k; ++k)
    weights[k] = static_cast<float>(scores[experts[k]] / divisor * double{routing.scale});
}

}  // namespace plait
