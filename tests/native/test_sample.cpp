// Sampling on hostile rows and settings, for the build under sanitizers. What is drawn must be
// possible, and what is impossible must be said; the values are compared with NumPy in
// tests/kernels/test_sampling.py.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <vector>

#include "plait/sample.h"

namespace {

using namespace plait;

constexpr float kInf = std::numeric_limits<float>::infinity();
std::mt19937_64 random_bits(11);

void expect(bool condition, const char* what) {
  if (condition) return;
  std::printf("FAILED: %s\n", what);
  std::exit(1);
}

template <typename T>
T pick(std::initializer_list<T> values) {
  return values.begin()[random_bits() % values.size()];
}

std::vector<int32_t> random_ids(size_t count) {
  return std::vector<int32_t>(count, pick({-5, 0, 1, 7, 1 << 30, std::numeric_limits<int>::min()}));
}

std::vector<float> random_row() {
  std::vector<float> row(random_bits() % pick({300, 3000}));
  const float scale = pick({0.0f, 1e-30f, 1.0f, 30.0f, 1e37f});
  for (float& x : row) x = scale * (static_cast<float>(random_bits() % 2001) / 1000.0f - 1.0f);
  for (float& x : row)
    if (random_bits() % 40 == 0) x = pick({-kInf, -kInf, -3.4e38f, 3.4e38f, 0.0f});
  if (!row.empty() && random_bits() % 10 == 0)
    row[random_bits() % row.size()] = pick({kInf, std::nanf(""), -std::nanf("")});
  return row;
}

void try_one(SampleScratch& scratch) {
  const std::vector<float> row = random_row();
  const std::vector<int32_t> history = random_ids(random_bits() % 20);
  const std::vector<int32_t> out = random_ids(pick<size_t>({0, 2}));
  const std::vector<int32_t> bias_ids = random_ids(2);
  const std::vector<double> bias{pick({-1e308, 1e308, 3.0}), 2.0};
  SampleSettings settings;
  settings.temperature = pick({0.0, 5e-324, 0.7, 1.0, 100.0});
  settings.top_k = pick<int64_t>({-1, 0, 1, 40, 1000, std::numeric_limits<int64_t>::max()});
  settings.top_p = pick({1.0, 0.9, 1e-300});
  settings.min_p = pick({0.0, 0.1, 1.0});
  settings.typical_p = pick({1.0, 0.5, 1e-300});
  if (random_bits() % 2 == 0) {
    settings.repetition_penalty = pick({1.0, 1e-6, 100.0});
    settings.presence_penalty = pick({0.0, -2.0});
    settings.frequency_penalty = pick({0.0, 2.0});
    settings.bias_ids = bias_ids;
    settings.bias = bias;
  }
  settings.history = history;
  settings.num_prompt = random_bits() % 30;
  settings.forbidden = settings.held = out;
  settings.seed = random_bits();

  const bool is_bad = std::ranges::any_of(row, [](float x) { return !(x < kInf); });
  Choice choice;
  const bool want_confidence = pick({false, true});
  const RowState state =
      sample_row(row, settings, true, random_bits(), want_confidence, scratch, choice);
  expect((state == RowState::kNotANumber) == is_bad, "NaN and +inf are noticed");
  if (state == RowState::kFine) {
    expect(choice.token >= 0 && static_cast<size_t>(choice.token) < row.size(), "token exists");
    expect(row[choice.token] != -kInf, "token is possible");
    expect(out.empty() || choice.token != out[0], "token is allowed");
    expect(choice.confidence >= 0.0 && choice.confidence <= 1.0, "confidence is a probability");
  }
  if (row.empty()) return;
  RowLogprobs logprobs;
  const size_t count = random_bits() % 400;
  const auto token = static_cast<int32_t>(random_bits() % row.size());
  if (logprobs_row(row, token, count, scratch, logprobs) != RowState::kFine) return;
  expect(logprobs.top.size() == std::min(count, row.size()), "as many alternatives as asked for");
  expect(std::ranges::is_sorted(logprobs.top_logprob, std::greater<>()), "best first");
  expect(logprobs.token <= 0.0 && logprobs.rank >= 1, "a log-probability and a rank");
}

}  // namespace

int main() {
  SampleScratch scratch;
  for (int i = 0; i < 20000; ++i) try_one(scratch);
  std::printf("sampling: fine\n");
}
