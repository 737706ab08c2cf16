#include "plait/sample.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <iterator>
#include <limits>
#include <numeric>
#include <ranges>

namespace plait {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kMax = std::numeric_limits<float>::max();

// exp(x) for x <= 0, 0 below -87 (where results would be subnormal); within 2^-21 of the true
// value. x = k ln 2 + r with |r| <= ln 2 / 2; exp(r) by its Taylor polynomial of degree 7, times
// 2^k through the exponent bits.
inline float small_exp(float x) {
  constexpr float kRound = 0x1.8p23f;  // adding it leaves the nearest whole number in the low bits
  const float bounded = x > -87.0f ? x : -87.0f;
  const float shifted = bounded * 0x1.715476p0f + kRound;
  const float k = shifted - kRound;
  const float r = (bounded - k * 0x1.63p-1f) - k * -0x1.bd0106p-13f;
  float y = 1.0f / 5040.0f;
  y = y * r + 1.0f / 720.0f;
  y = y * r + 1.0f / 120.0f;
  y = y * r + 1.0f / 24.0f;
  y = y * r + 1.0f / 6.0f;
  y = y * r + 0.5f;
  y = y * r + 1.0f;
  y = y * r + 1.0f;
  const uint32_t power = (std::bit_cast<uint32_t>(shifted) + 127) << 23;
  const float result = y * std::bit_cast<float>(power);
  return x >= -87.0f ? result : 0.0f;
}

// The same in float64, within 2 ulp: degree 13, 0 below -708.
inline double exact_exp(double x) {
  constexpr double kInverse[] = {1.0 / 6227020800.0,
                                 1.0 / 479001600.0,
                                 1.0 / 39916800.0,
                                 1.0 / 3628800.0,
                                 1.0 / 362880.0,
                                 1.0 / 40320.0,
                                 1.0 / 5040.0,
                                 1.0 / 720.0,
                                 1.0 / 120.0,
                                 1.0 / 24.0,
                                 1.0 / 6.0,
                                 0.5,
                                 1.0,
                                 1.0};
  constexpr double kRound = 0x1.8p52;
  const double bounded = x > -708.0 ? x : -708.0;
  const double shifted = bounded * 0x1.71547652b82fep0 + kRound;
  const double k = shifted - kRound;
  const double r = (bounded - k * 0x1.62e42feep-1) - k * 0x1.a39ef35793c76p-33;
  double y = kInverse[0];
#pragma GCC unroll 13
  for (int i = 1; i < 14; ++i) y = y * r + kInverse[i];
  const uint64_t power = (std::bit_cast<uint64_t>(shifted) + 1023) << 52;
  const double result = y * std::bit_cast<double>(power);
  return x >= -708.0 ? result : 0.0;
}

bool in_range(int32_t id, const std::vector<float>& score) {
  return id >= 0 && static_cast<size_t>(id) < score.size();
}

// False when a logit is NaN or +inf.
bool load(std::span<const float> logits, std::vector<float>& score) {
  int32_t is_bad = 0;
  for (float x : logits) is_bad |= x <= kMax ? 0 : 1;
  score.assign(logits.begin(), logits.end());
  return is_bad == 0;
}

// Maximum, in independent lanes so that the compiler may use vectors; -inf when empty.
float max_of(std::span<const float> values) {
  constexpr size_t kLanes = 16;
  float lanes[kLanes];
  std::fill_n(lanes, kLanes, -kInf);
  const size_t whole = values.size() / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes)
    for (size_t j = 0; j < kLanes; ++j)
      lanes[j] = values[i + j] > lanes[j] ? values[i + j] : lanes[j];
  for (size_t i = whole; i < values.size(); ++i) lanes[0] = std::max(lanes[0], values[i]);
  return *std::max_element(lanes, lanes + kLanes);
}

// A score after an operation in float64. Impossible stays impossible, the rest stays finite.
float rounded(double score) {
  return score == -kInf ? -kInf : static_cast<float>(std::clamp<double>(score, -kMax, kMax));
}

void penalise(const SampleSettings& s, SampleScratch& scratch) {
  if (s.repetition_penalty == 1.0 && s.presence_penalty == 0.0 && s.frequency_penalty == 0.0)
    return;
  auto& score = scratch.score;
  auto& counts = scratch.counts;
  counts.assign(score.size(), -1);  // -1: not in the history; else how often it is in the output
  for (size_t i = 0; i < s.history.size(); ++i) {
    const int32_t id = s.history[i];
    if (!in_range(id, score)) continue;
    if (counts[id] < 0) {
      counts[id] = 0;
      const double old = score[id];
      score[id] = rounded(old > 0.0 ? old / s.repetition_penalty : old * s.repetition_penalty);
    }
    counts[id] += i >= s.num_prompt;
  }
  for (size_t id = 0; id < score.size(); ++id) {
    if (counts[id] <= 0) continue;
    const double frequency = s.frequency_penalty * counts[id];
    score[id] = rounded((score[id] - frequency) - s.presence_penalty);
  }
}

void process(const SampleSettings& s, bool is_held, SampleScratch& scratch) {
  auto& score = scratch.score;
  for (int32_t id : s.forbidden)
    if (in_range(id, score)) score[id] = -kInf;
  if (is_held)
    for (int32_t id : s.held)
      if (in_range(id, score)) score[id] = -kInf;
  for (size_t i = 0; i < s.bias_ids.size(); ++i)
    if (in_range(s.bias_ids[i], score))
      score[s.bias_ids[i]] = rounded(score[s.bias_ids[i]] + s.bias[i]);
  penalise(s, scratch);
}

auto all_ids(const SampleScratch& s) {
  return std::views::iota(int32_t{0}, static_cast<int32_t>(s.score.size()));
}

// For the given ids: exponent = (score - best) / temperature, weight = exp(exponent).
template <typename Ids>
void weigh(const Ids& ids, float best, double temperature, SampleScratch& s) {
  const float divisor =
      std::max(static_cast<float>(temperature), std::numeric_limits<float>::min());
  s.exponent.resize(s.score.size());
  s.weight.resize(s.score.size());
  const float* score = s.score.data();
  float* exponent = s.exponent.data();
  float* weight = s.weight.data();
  for (int32_t id : ids) exponent[id] = (score[id] - best) / divisor;
  for (int32_t id : ids) weight[id] = small_exp(exponent[id]);
}

template <typename Ids>
double sum_of(const Ids& ids, const std::vector<float>& weight) {
  double total = 0.0;
  for (int32_t id : ids) total += weight[id];
  return total;
}

void keep_all(SampleScratch& s) {
  s.ids.resize(s.score.size());
  std::iota(s.ids.begin(), s.ids.end(), 0);
}

// The k ids with the best scores, best first.
void keep_best(SampleScratch& s, size_t k) {
  keep_all(s);
  const auto& score = s.score;
  auto better = [&](int32_t a, int32_t b) {
    return score[a] != score[b] ? score[a] > score[b] : a < b;
  };
  const auto middle = s.ids.begin() + static_cast<ptrdiff_t>(k);
  constexpr size_t kHeap = 128;  // up to here a heap over one scan beats a partition
  if (k <= kHeap) {
    std::partial_sort(s.ids.begin(), middle, s.ids.end(), better);
  } else {
    if (middle != s.ids.end()) std::nth_element(s.ids.begin(), middle, s.ids.end(), better);
    std::sort(s.ids.begin(), middle, better);
  }
  s.ids.resize(k);
}

// Keeps the shortest prefix, in ascending order of key (>= 0; ties by lower id), whose weights
// reach `share` of the total. Nothing is sorted but the bucket in which the prefix ends: the mass
// of the buckets before it is all that matters of them.
template <typename Key>
void keep_share(SampleScratch& s, double share, Key key) {
  constexpr int kBuckets = 256;  // a quarter of a nat each
  auto bucket = [&](int32_t id) {
    return static_cast<int>(std::min<double>(4.0 * key(id), kBuckets - 1));
  };
  double mass_of[kBuckets] = {};
  for (int32_t id : s.ids) mass_of[bucket(id)] += s.weight[id];
  const double wanted = share * std::accumulate(mass_of, mass_of + kBuckets, 0.0);
  int last = 0;
  double mass = 0.0;
  while (last < kBuckets - 1 && mass + mass_of[last] < wanted) mass += mass_of[last++];

  auto less = [&](int32_t a, int32_t b) {
    const double ka = key(a), kb = key(b);
    return ka != kb ? ka < kb : a < b;
  };
  s.edge.clear();
  std::ranges::copy_if(s.ids, std::back_inserter(s.edge),
                       [&](int32_t id) { return bucket(id) == last; });
  std::sort(s.edge.begin(), s.edge.end(), less);
  size_t kept = 0;
  while (kept < s.edge.size() && mass < wanted) mass += s.weight[s.edge[kept++]];
  const bool is_cut = kept < s.edge.size();
  std::erase_if(s.ids, [&](int32_t id) {
    const int place = bucket(id);
    return place > last || (place == last && is_cut && !less(id, s.edge[kept]));
  });
}

void keep_top_p(SampleScratch& s, double top_p) {
  keep_share(s, top_p, [&](int32_t id) { return -s.exponent[id]; });
}

void keep_min_p(SampleScratch& s, double min_p) {
  double best = 0.0;
  for (int32_t id : s.ids) best = std::max<double>(best, s.weight[id]);
  std::erase_if(s.ids, [&](int32_t id) { return s.weight[id] < min_p * best; });
}

// Locally typical sampling (arXiv:2202.00666): the tokens whose surprise is nearest to the entropy.
// The logarithm of the total cancels in |-log p - H|, which leaves |mean exponent - exponent|.
void keep_typical(SampleScratch& s, double typical_p) {
  double weighted = 0.0;
  for (int32_t id : s.ids) weighted += static_cast<double>(s.weight[id]) * s.exponent[id];
  const double mean = weighted / sum_of(s.ids, s.weight);
  keep_share(s, typical_p, [&](int32_t id) { return std::abs(mean - s.exponent[id]); });
}

void filter(const SampleSettings& settings, float best, SampleScratch& s) {
  if (settings.top_k > 0 && static_cast<size_t>(settings.top_k) < s.score.size()) {
    keep_best(s, static_cast<size_t>(settings.top_k));
    std::sort(s.ids.begin(), s.ids.end());
    weigh(s.ids, best, settings.temperature, s);
  } else {
    keep_all(s);
    weigh(all_ids(s), best, settings.temperature, s);
  }
  std::erase_if(s.ids, [&](int32_t id) { return s.weight[id] == 0.0f; });
  if (settings.top_p < 1.0) keep_top_p(s, settings.top_p);
  if (settings.min_p > 0.0) keep_min_p(s, settings.min_p);
  if (settings.typical_p < 1.0) keep_typical(s, settings.typical_p);
}

// Inverse CDF: the first id, in ascending order, at which the mass passes random * total.
template <typename Ids>
int32_t draw(const Ids& ids, const std::vector<float>& weight, double random) {
  const double wanted = random * sum_of(ids, weight);
  double mass = 0.0;
  int32_t last = 0;
  for (int32_t id : ids) {
    mass += weight[id];
    if (mass > wanted) return id;
    if (weight[id] > 0.0) last = id;
  }
  return last;  // random * total was rounded up to the total
}

int32_t choose(const SampleSettings& settings, float best, double random, SampleScratch& s) {
  const bool has_filter = settings.top_k > 0 || settings.top_p < 1.0 || settings.min_p > 0.0 ||
                          settings.typical_p < 1.0;
  if (has_filter) {
    filter(settings, best, s);
    return draw(s.ids, s.weight, random);
  }
  weigh(all_ids(s), best, settings.temperature, s);
  return draw(all_ids(s), s.weight, random);
}

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

// Does the best logit win, whatever the others are?
bool takes_best(const SampleSettings& s, bool is_held) {
  const bool has_penalty =
      s.repetition_penalty != 1.0 || s.presence_penalty != 0.0 || s.frequency_penalty != 0.0;
  return s.temperature <= 0.0 && !has_penalty && s.bias.empty() && s.forbidden.empty() &&
         (!is_held || s.held.empty());
}

// The first of the best logits, in one pass and without a copy: a piece at a time, so that only the
// piece with the best one is searched for its place.
RowState best_of(std::span<const float> logits, Choice& choice) {
  constexpr size_t kPiece = 1024;
  float best = -kInf;
  size_t at = 0;
  for (size_t from = 0; from < logits.size(); from += kPiece) {
    const auto piece = logits.subspan(from, std::min(kPiece, logits.size() - from));
    int32_t is_bad = 0;
    for (float x : piece) is_bad |= x <= kMax ? 0 : 1;
    if (is_bad != 0) return RowState::kNotANumber;
    const float highest = max_of(piece);
    if (highest > best) best = highest, at = from;
  }
  if (best == -kInf) return RowState::kNothingLeft;
  while (logits[at] != best) ++at;
  choice.token = static_cast<int32_t>(at);
  return RowState::kFine;
}

}  // namespace

RowState sample_row(std::span<const float> logits, const SampleSettings& settings, bool is_held,
                    uint64_t position, bool want_confidence, SampleScratch& scratch,
                    Choice& choice) {
  if (!want_confidence && takes_best(settings, is_held)) return best_of(logits, choice);
  if (!load(logits, scratch.score)) return RowState::kNotANumber;
  process(settings, is_held, scratch);
  const auto& score = scratch.score;
  const float best = max_of(score);
  if (best == -kInf) return RowState::kNothingLeft;
  choice.token = static_cast<int32_t>(std::find(score.begin(), score.end(), best) - score.begin());
  if (settings.temperature > 0.0)
    choice.token = choose(settings, best, uniform(settings.seed, position), scratch);
  if (want_confidence) {
    weigh(all_ids(scratch), best, 1.0, scratch);
    choice.confidence = scratch.weight[choice.token] / sum_of(all_ids(scratch), scratch.weight);
  }
  return RowState::kFine;
}

RowState logprobs_row(std::span<const float> logits, int32_t token, size_t num_top,
                      SampleScratch& scratch, RowLogprobs& result) {
  if (!load(logits, scratch.score)) return RowState::kNotANumber;
  const auto& score = scratch.score;
  const double best = max_of(score);
  if (best == -kInf) return RowState::kNothingLeft;
  const double log_total = std::log(total_of(score, best));
  const float own = score[token];
  result.token = (own - best) - log_total;
  result.rank =
      1 + static_cast<int32_t>(std::ranges::count_if(score, [&](float x) { return x > own; }));
  scratch.ids.clear();
  if (num_top > 0) keep_best(scratch, std::min(num_top, score.size()));
  scratch.logprob.clear();
  for (int32_t id : scratch.ids) scratch.logprob.push_back((score[id] - best) - log_total);
  result.top = scratch.ids;
  result.top_logprob = scratch.logprob;
  return RowState::kFine;
}

}  // namespace plait
