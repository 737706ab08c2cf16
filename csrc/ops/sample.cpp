#include "plait/sample.h"

#include <algorithm>
#include <cmath>

#include "sample_candidates.h"

namespace plait {
namespace {

// The sum of exp(score - best) in float64, in ascending id order. A chunk at a time, so that the
// exponentials are vectors and only the sum is not.
double total_of(std::span<const float> score, double best) {
  constexpr size_t kChunk = 256;
  double values[kChunk];
  double total = 0.0;
  for (size_t from = 0; from < score.size(); from += kChunk) {
    const size_t n = std::min(kChunk, score.size() - from);
    for (size_t i = 0; i < n; ++i) values[i] = exact_exp(score[from + i] - best);
    for (size_t i = 0; i < n; ++i) total += values[i];
  }
  return total;
}

}  // namespace

std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * counter[0];
    const uint64_t b = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key = {key[0] + 0x9E3779B9, key[1] + 0xBB67AE85};
  }
  return counter;
}

double uniform(uint64_t seed, uint64_t position) {
  const auto words =
      philox({static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), 0, 0},
             {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  const uint64_t bits = uint64_t{words[0]} << 32 | words[1];
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

float exp_nonpositive(float x) {
  return small_exp(x);
}

namespace {

bool has_penalties(const SampleSettings& s) {
  return s.repetition_penalty != 1.0 || s.presence_penalty != 0.0 || s.frequency_penalty != 0.0;
}

// How many of the best logits decide, whatever the others are; 0: all do.
size_t best_needed(const SampleSettings& s, bool is_held) {
  const bool is_greedy = s.temperature <= 0.0;
  if (has_penalties(s) || !s.bias.empty() || (!is_greedy && s.top_k <= 0)) return 0;
  const size_t count = is_greedy ? 1 : static_cast<size_t>(s.top_k);
  return count + s.forbidden.size() + (is_held ? s.held.size() : 0);
}

}  // namespace

RowState sample_row(std::span<const float> logits, const SampleSettings& settings, bool is_held,
                    uint64_t position, bool want_confidence, SampleScratch& scratch,
                    Choice& choice) {
  const size_t needed = want_confidence ? 0 : best_needed(settings, is_held);
  const bool is_changed = !settings.forbidden.empty() || (is_held && !settings.held.empty()) ||
                          !settings.bias_ids.empty() || has_penalties(settings);
  const Look look = load(logits, needed, is_changed, Allowed(settings.mask), scratch);
  if (!look.is_fine) return RowState::kNotANumber;
  if (is_changed) process(settings, is_held, scratch);
  const auto row = scratch.row;
  const float best = is_changed ? look_at(row).highest : look.highest;
  if (best == -kInf) return RowState::kNothingLeft;
  const int32_t place = settings.temperature > 0.0
                            ? choose(settings, best, uniform(settings.seed, position), scratch)
                            : static_cast<int32_t>(std::ranges::find(row, best) - row.begin());
  choice.token = token_at(place, scratch);
  if (want_confidence) {
    const Weigher weigher(best, 1.0);
    float exponent, weight;
    weigher(&row[place], 1, &exponent, &weight);
    choice.confidence = weight / mass_of_row(scratch, weigher);
  }
  return RowState::kFine;
}

RowState logprobs_row(std::span<const float> logits, int32_t token, size_t num_top,
                      SampleScratch& scratch, RowLogprobs& result) {
  const Look look = load(logits, 0, false, Allowed({}), scratch);
  if (!look.is_fine) return RowState::kNotANumber;
  const auto score = scratch.row;
  const double best = look.highest;
  if (best == -kInf) return RowState::kNothingLeft;
  const double log_total = std::log(total_of(score, best));
  const float own = score[token];
  result.token = (own - best) - log_total;
  result.rank =
      1 + static_cast<int32_t>(std::ranges::count_if(score, [&](float x) { return x > own; }));
  scratch.order.clear();
  if (num_top > 0) order_best(scratch, std::min(num_top, score.size()));
  scratch.logprob.clear();
  for (int32_t place : scratch.order) scratch.logprob.push_back((score[place] - best) - log_total);
  result.top = scratch.order;
  result.top_logprob = scratch.logprob;
  return RowState::kFine;
}

}  // namespace plait
