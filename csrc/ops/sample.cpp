#include "plait/sample.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <iterator>
#include <limits>
#include <numeric>
#include <ranges>

#include "exponential.h"

namespace plait {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kMax = std::numeric_limits<float>::max();

// What one look at some scores says of them; the highest of none is -inf.
struct Look {
  float highest = -kInf;
  bool is_fine = true;  // none is NaN or +inf
};

Look look_at(std::span<const float> scores) {
  using Floats [[gnu::vector_size(16)]] = float;
  using Masks [[gnu::vector_size(16)]] = int32_t;
  constexpr size_t kVectors = 4, kLanes = 4, kStep = kVectors * kLanes;
  Floats highest[kVectors];
  Masks is_fine[kVectors];
  for (size_t v = 0; v < kVectors; ++v) highest[v] = Floats{} - kInf, is_fine[v] = ~Masks{};
  const size_t whole = scores.size() / kStep * kStep;
  for (size_t i = 0; i < whole; i += kStep) {
    Floats x[kVectors];
    std::memcpy(x, scores.data() + i, sizeof x);
    for (size_t v = 0; v < kVectors; ++v) {
      highest[v] = x[v] > highest[v] ? x[v] : highest[v];
      is_fine[v] &= x[v] <= kMax;
    }
  }
  Look look;
  for (size_t i = 0; i < kStep; ++i) {
    look.highest = std::max(look.highest, highest[i / kLanes][i % kLanes]);
    look.is_fine &= is_fine[i / kLanes][i % kLanes] != 0;
  }
  for (float score : scores.subspan(whole)) {
    look.highest = std::max(look.highest, score);
    look.is_fine &= score <= kMax;
  }
  return look;
}

constexpr size_t kPiece = 128;

// Notes the highest score of each piece of a row. False when a logit is NaN or +inf.
bool survey(std::span<const float> logits, SampleScratch& scratch) {
  scratch.highest.clear();
  for (size_t from = 0; from < logits.size(); from += kPiece) {
    const Look look = look_at(logits.subspan(from, std::min(kPiece, logits.size() - from)));
    if (!look.is_fine) return false;
    scratch.highest.push_back(look.highest);
  }
  return true;
}

// Takes over the scores that reach the floor, from the pieces of a row whose highest does.
void load_from(std::span<const float> logits, float floor, SampleScratch& scratch) {
  auto& score = scratch.score;
  auto& token = scratch.token;
  const auto& highest = scratch.highest;
  size_t count = 0;
  for (size_t i = 0; i < highest.size(); ++i) {
    if (highest[i] < floor) continue;
    score.resize(count + kPiece);
    token.resize(count + kPiece);
    const size_t from = i * kPiece, end = std::min(from + kPiece, logits.size());
    for (size_t id = from; id < end; ++id) {
      score[count] = logits[id];
      token[count] = static_cast<int32_t>(id);
      count += logits[id] >= floor;
    }
  }
  score.resize(count);
  token.resize(count);
}

// Takes the scores of a surveyed row over; with needed > 0 only those that can be among so many of
// the best. If so many pieces of the row hold a score that reaches the floor, nothing below it is
// one of the best, and most pieces need no second look.
void load(std::span<const float> logits, size_t needed, SampleScratch& scratch) {
  float floor = -kInf;
  if (needed > 0 && needed < scratch.highest.size()) {
    auto& sorted = scratch.exponent;
    sorted = scratch.highest;
    const auto last = sorted.begin() + static_cast<ptrdiff_t>(needed) - 1;
    std::nth_element(sorted.begin(), last, sorted.end(), std::greater{});
    floor = *last;
  }
  scratch.token.clear();
  if (floor > -kInf) return load_from(logits, floor, scratch);
  scratch.score.assign(logits.begin(), logits.end());
}

// Where an id stands in the scratch; -1: it is not among the scores.
ptrdiff_t place_of(int32_t id, const SampleScratch& s) {
  if (s.token.empty()) return id >= 0 && static_cast<size_t>(id) < s.score.size() ? id : -1;
  const auto found = std::ranges::lower_bound(s.token, id);
  return found != s.token.end() && *found == id ? found - s.token.begin() : -1;
}

int32_t token_at(int32_t place, const SampleScratch& s) {
  return s.token.empty() ? place : s.token[place];
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
    const ptrdiff_t place = place_of(s.history[i], scratch);
    if (place < 0) continue;
    if (counts[place] < 0) {
      counts[place] = 0;
      const double old = score[place];
      score[place] = rounded(old > 0.0 ? old / s.repetition_penalty : old * s.repetition_penalty);
    }
    counts[place] += i >= s.num_prompt;
  }
  for (size_t place = 0; place < score.size(); ++place) {
    if (counts[place] <= 0) continue;
    const double frequency = s.frequency_penalty * counts[place];
    score[place] = rounded((score[place] - frequency) - s.presence_penalty);
  }
}

void process(const SampleSettings& s, bool is_held, SampleScratch& scratch) {
  auto& score = scratch.score;
  const auto forbid = [&](std::span<const int32_t> ids) {
    for (int32_t id : ids)
      if (const ptrdiff_t place = place_of(id, scratch); place >= 0) score[place] = -kInf;
  };
  forbid(s.forbidden);
  if (is_held) forbid(s.held);
  for (size_t i = 0; i < s.bias_ids.size(); ++i)
    if (const ptrdiff_t place = place_of(s.bias_ids[i], scratch); place >= 0)
      score[place] = rounded(score[place] + s.bias[i]);
  penalise(s, scratch);
}

auto all_places(const SampleScratch& s) {
  return std::views::iota(int32_t{0}, static_cast<int32_t>(s.score.size()));
}

float divisor_of(double temperature) {
  return std::max(static_cast<float>(temperature), std::numeric_limits<float>::min());
}

// For the given places: exponent = (score - best) / temperature, weight = exp(exponent).
template <typename Places>
void weigh(const Places& places, float best, double temperature, SampleScratch& s) {
  const float divisor = divisor_of(temperature);
  s.exponent.resize(s.score.size());
  s.weight.resize(s.score.size());
  const float* score = s.score.data();
  float* exponent = s.exponent.data();
  float* weight = s.weight.data();
  for (int32_t place : places) exponent[place] = (score[place] - best) / divisor;
  for (int32_t place : places) weight[place] = small_exp(exponent[place]);
}

template <typename Places>
double sum_of(const Places& places, const std::vector<float>& weight) {
  double total = 0.0;
  for (int32_t place : places) total += weight[place];
  return total;
}

void keep_all(SampleScratch& s) {
  s.places.resize(s.score.size());
  std::iota(s.places.begin(), s.places.end(), 0);
}

// The k places with the best scores, best first.
void keep_best(SampleScratch& s, size_t k) {
  keep_all(s);
  const auto& score = s.score;
  auto better = [&](int32_t a, int32_t b) {
    return score[a] != score[b] ? score[a] > score[b] : a < b;
  };
  const auto middle = s.places.begin() + static_cast<ptrdiff_t>(k);
  constexpr size_t kHeap = 128;  // up to here a heap over one scan beats a partition
  if (k <= kHeap) {
    std::partial_sort(s.places.begin(), middle, s.places.end(), better);
  } else {
    if (middle != s.places.end())
      std::nth_element(s.places.begin(), middle, s.places.end(), better);
    std::sort(s.places.begin(), middle, better);
  }
  s.places.resize(k);
}

constexpr int kBuckets = 256;  // of a key >= 0: a quarter each, the last without an end
constexpr int kBucketsPerNat = 4;

template <typename Key>
int bucket_of(int32_t place, Key key) {
  return static_cast<int>(std::min<double>(kBucketsPerNat * key(place), kBuckets - 1));
}

struct Masses {
  double of[kBuckets] = {};
};

// The weights in each bucket, added up in ascending order of place.
template <typename Key>
Masses masses(SampleScratch& s, Key key) {
  Masses local;  // whose address nobody has: the loop need not read what `s` holds again and again
  s.bucket.resize(s.places.size());
  int16_t* bucket_at = s.bucket.data();
  const float* weight = s.weight.data();
  for (int32_t place : s.places) {
    const int number = bucket_of(place, key);
    *bucket_at++ = static_cast<int16_t>(number);
    local.of[number] += weight[place];
  }
  return Masses(local);
}

// Keeps the shortest prefix, in ascending order of key (ties by lower place), whose weights reach
// `least`, or all places of the first num_buckets buckets. Nothing is sorted but the bucket in
// which the prefix ends: the mass of the buckets before it is all that matters of them. False when
// the weights do not reach `most`: then a prefix for something in between could be longer.
template <typename Key>
bool keep_mass(SampleScratch& s, const Masses& masses, int num_buckets, double least, double most,
               Key key) {
  int last = 0;
  double mass = 0.0;
  while (last < num_buckets - 1 && mass + masses.of[last] < least) mass += masses.of[last++];

  auto less = [&](int32_t a, int32_t b) {
    const double ka = key(a), kb = key(b);
    return ka != kb ? ka < kb : a < b;
  };
  // Without a branch: which place stays is as good as random.
  const size_t count = s.places.size();
  s.edge.resize(count);
  size_t num_edge = 0, num_kept = 0;
  for (size_t i = 0; i < count; ++i) {
    const int32_t place = s.places[i];
    s.edge[num_edge] = place;
    s.places[num_kept] = place;
    num_edge += s.bucket[i] == last;
    num_kept += s.bucket[i] <= last;
  }
  s.edge.resize(num_edge);
  s.places.resize(num_kept);
  std::sort(s.edge.begin(), s.edge.end(), less);
  size_t taken = 0;
  while (taken < s.edge.size() && mass < least) mass += s.weight[s.edge[taken++]];
  s.edge.erase(s.edge.begin(), s.edge.begin() + static_cast<ptrdiff_t>(taken));
  if (s.edge.empty()) return mass >= most;
  const int32_t first_out = s.edge.front();
  std::erase_if(s.places, [&](int32_t place) {
    return bucket_of(place, key) == last && !less(place, first_out);
  });
  return mass >= most;
}

// The same for a share of the weights of all places.
template <typename Key>
void keep_share(SampleScratch& s, double share, Key key) {
  const Masses mass = masses(s, key);
  const double wanted = share * std::accumulate(mass.of, mass.of + kBuckets, 0.0);
  keep_mass(s, mass, kBuckets, wanted, wanted, key);
}

// How far each place lies below the best, in nats; until the next weigh().
auto distance(const SampleScratch& s) {
  return [exponent = s.exponent.data()](int32_t place) { return -exponent[place]; };
}

void keep_top_p(SampleScratch& s, double top_p) {
  keep_share(s, top_p, distance(s));
}

void keep_min_p(SampleScratch& s, double min_p) {
  double best = 0.0;
  for (int32_t place : s.places) best = std::max<double>(best, s.weight[place]);
  std::erase_if(s.places, [&](int32_t place) { return s.weight[place] < min_p * best; });
}

// Locally typical sampling (arXiv:2202.00666): the tokens whose surprise is nearest to the entropy.
// The logarithm of the total cancels in |-log p - H|, which leaves |mean exponent - exponent|.
void keep_typical(SampleScratch& s, double typical_p) {
  double weighted = 0.0;
  for (int32_t place : s.places)
    weighted += static_cast<double>(s.weight[place]) * s.exponent[place];
  const double mean = weighted / sum_of(s.places, s.weight);
  keep_share(s, typical_p, [&](int32_t place) { return std::abs(mean - s.exponent[place]); });
}

void keep_possible(SampleScratch& s) {
  size_t count = 0;
  for (int32_t place : s.places) {
    s.places[count] = place;
    count += s.weight[place] > 0.0f;
  }
  s.places.resize(count);
}

// What comes after top_p.
void filter_further(const SampleSettings& settings, SampleScratch& s) {
  if (settings.min_p > 0.0) keep_min_p(s, settings.min_p);
  if (settings.typical_p < 1.0) keep_typical(s, settings.typical_p);
}

void filter(const SampleSettings& settings, float best, SampleScratch& s) {
  if (settings.top_k > 0 && static_cast<size_t>(settings.top_k) < s.score.size()) {
    keep_best(s, static_cast<size_t>(settings.top_k));
    std::sort(s.places.begin(), s.places.end());
    weigh(s.places, best, settings.temperature, s);
  } else {
    keep_all(s);
    weigh(all_places(s), best, settings.temperature, s);
  }
  keep_possible(s);
  if (settings.top_p < 1.0) keep_top_p(s, settings.top_p);
  filter_further(settings, s);
}

// Inverse CDF: the first place, in ascending order, at which the mass passes random * total.
template <typename Places>
int32_t draw(const Places& places, const std::vector<float>& weight, double random) {
  const double wanted = random * sum_of(places, weight);
  double mass = 0.0;
  int32_t last = 0;
  for (int32_t place : places) {
    mass += weight[place];
    if (mass > wanted) return place;
    if (weight[place] > 0.0) last = place;
  }
  return last;  // random * total was rounded up to the total
}

int32_t choose(const SampleSettings& settings, float best, double random, SampleScratch& s) {
  const bool has_filter = settings.top_k > 0 || settings.top_p < 1.0 || settings.min_p > 0.0 ||
                          settings.typical_p < 1.0;
  if (has_filter) {
    filter(settings, best, s);
    return draw(s.places, s.weight, random);
  }
  weigh(all_places(s), best, settings.temperature, s);
  return draw(all_places(s), s.weight, random);
}

// What the weights of all tokens add up to, wrong by less than a share of kDoubt: a product in
// place of the quotient moves an exponent, of 87 at most, by three roundings, a weight by 2^-15 of
// itself. Pieces are added up in lanes of float32, half upon half.
constexpr double kDoubt = 0x1p-14;

double mass_about(std::span<const float> logits, float best, float divisor) {
  constexpr size_t kLanes = 16;
  const float factor = 1.0f / divisor;
  double mass = 0.0;
  for (size_t from = 0; from < logits.size(); from += kPiece) {
    float weight[kPiece] = {};
    const size_t count = std::min(kPiece, logits.size() - from);
    for (size_t i = 0; i < count; ++i) weight[i] = small_exp((logits[from + i] - best) * factor);
    for (size_t half = kPiece / 2; half >= kLanes; half /= 2)
      for (size_t i = 0; i < half; ++i) weight[i] += weight[half + i];
    for (size_t i = 0; i < kLanes; ++i) mass += weight[i];
  }
  return mass;
}

// A score that lies so many nats below the best, or a little lower: whatever is no further below
// once its exponent has been rounded reaches it.
float floor_at(int nats, float best, float divisor) {
  const double floor = best - nats * 0x1.0001p0 * divisor;
  return std::nextafter(static_cast<float>(floor), -kInf);
}

// top_p, for a surveyed row of which nothing else is asked before it. The mass to be reached is
// known well enough without the order in which filter() adds it up; only tokens within a few nats
// of the best are looked at, or within a few more if those do not reach it. False when all of these
// do not, when the doubt is about a token, or when so much of the row is near that looking at all
// of it is no slower: then filter() decides. What is kept is the same to the bit.
bool keep_nucleus(std::span<const float> logits, const SampleSettings& settings, float best,
                  SampleScratch& s) {
  constexpr int kReaches[] = {6, 8};     // nats
  constexpr ptrdiff_t kMostPieces = 20;  // one in so many
  const float divisor = divisor_of(settings.temperature);
  const float first = floor_at(kReaches[0], best, divisor);
  const auto num_near = std::ranges::count_if(s.highest, [&](float x) { return x >= first; });
  if (num_near * kMostPieces > std::ssize(s.highest)) return false;

  const double wanted = settings.top_p * mass_about(logits, best, divisor);
  const double least = wanted * (1.0 - kDoubt), most = wanted * (1.0 + kDoubt);
  for (int nats : kReaches) {
    load_from(logits, floor_at(nats, best, divisor), s);
    weigh(all_places(s), best, settings.temperature, s);
    keep_all(s);
    keep_possible(s);
    const int num_buckets = kBucketsPerNat * nats;
    const auto key = distance(s);
    const Masses mass = masses(s, key);
    if (std::accumulate(mass.of, mass.of + num_buckets, 0.0) < most) continue;
    return keep_mass(s, mass, num_buckets, least, most, key);
  }
  return false;
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

bool changes_scores(const SampleSettings& s) {
  return s.repetition_penalty != 1.0 || s.presence_penalty != 0.0 || s.frequency_penalty != 0.0 ||
         !s.bias.empty();
}

// How many of the best logits decide, whatever the others are; 0: all do.
size_t best_needed(const SampleSettings& s, bool is_held) {
  const bool is_greedy = s.temperature <= 0.0;
  if (changes_scores(s) || (!is_greedy && s.top_k <= 0)) return 0;
  const size_t count = is_greedy ? 1 : static_cast<size_t>(s.top_k);
  return count + s.forbidden.size() + (is_held ? s.held.size() : 0);
}

// Whether top_p meets the row as it is.
bool begins_with_top_p(const SampleSettings& s, bool is_held) {
  return s.temperature > 0.0 && s.top_k <= 0 && s.top_p < 1.0 && !changes_scores(s) &&
         s.forbidden.empty() && (!is_held || s.held.empty());
}

// Whether the token could be chosen from what is near the best.
bool choose_near(std::span<const float> logits, const SampleSettings& settings, double random,
                 SampleScratch& scratch, int32_t& token) {
  const float best = look_at(scratch.highest).highest;
  if (best == -kInf || !keep_nucleus(logits, settings, best, scratch)) return false;
  filter_further(settings, scratch);
  token = token_at(draw(scratch.places, scratch.weight, random), scratch);
  return true;
}

}  // namespace

RowState sample_row(std::span<const float> logits, const SampleSettings& settings, bool is_held,
                    uint64_t position, bool want_confidence, SampleScratch& scratch,
                    Choice& choice) {
  if (!survey(logits, scratch)) return RowState::kNotANumber;
  const double random = uniform(settings.seed, position);
  if (!want_confidence && begins_with_top_p(settings, is_held) &&
      choose_near(logits, settings, random, scratch, choice.token))
    return RowState::kFine;
  load(logits, want_confidence ? 0 : best_needed(settings, is_held), scratch);
  process(settings, is_held, scratch);
  const auto& score = scratch.score;
  const float best = look_at(score).highest;
  if (best == -kInf) return RowState::kNothingLeft;
  auto place = static_cast<int32_t>(std::find(score.begin(), score.end(), best) - score.begin());
  if (settings.temperature > 0.0) place = choose(settings, best, random, scratch);
  choice.token = token_at(place, scratch);
  if (want_confidence) {
    weigh(all_places(scratch), best, 1.0, scratch);
    choice.confidence = scratch.weight[place] / sum_of(all_places(scratch), scratch.weight);
  }
  return RowState::kFine;
}

RowState logprobs_row(std::span<const float> logits, int32_t token, size_t num_top,
                      SampleScratch& scratch, RowLogprobs& result) {
  if (!survey(logits, scratch)) return RowState::kNotANumber;
  load(logits, 0, scratch);
  const auto& score = scratch.score;
  const double best = look_at(score).highest;
  if (best == -kInf) return RowState::kNothingLeft;
  const double log_total = std::log(total_of(score, best));
  const float own = score[token];
  result.token = (own - best) - log_total;
  result.rank =
      1 + static_cast<int32_t>(std::ranges::count_if(score, [&](float x) { return x > own; }));
  scratch.places.clear();
  if (num_top > 0) keep_best(scratch, std::min(num_top, score.size()));
  scratch.logprob.clear();
  for (int32_t place : scratch.places) scratch.logprob.push_back((score[place] - best) - log_total);
  result.top = scratch.places;
  result.top_logprob = scratch.logprob;
  return RowState::kFine;
}

}  // namespace plait
