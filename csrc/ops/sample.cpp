#include "plait/sample.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <iterator>
#include <limits>
#include <numeric>

namespace plait {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kMax = std::numeric_limits<float>::max();
constexpr size_t kPiece = 128;  // ids of which the highest score is known, a multiple of 32

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

// Which ids of a row may be chosen: a bit each, or all of them.
class Allowed {
 public:
  explicit Allowed(std::span<const uint32_t> mask) : mask_(mask) {}

  bool has(size_t id) const { return mask_.empty() || (mask_[id / 32] >> id % 32 & 1) != 0; }

  // The scores of ids [from, from + count), from a multiple of 32 on, with -inf for those that may
  // not be chosen. Most words of a grammar's masks are all or nothing.
  void copy(std::span<const float> logits, size_t from, size_t count, float* out) const {
    for (const size_t end = from + count; from < end; from += 32, out += 32) {
      const size_t width = std::min<size_t>(32, end - from);
      const float* in = logits.data() + from;
      const uint32_t word = mask_.empty() ? ~0u : mask_[from / 32];
      if (word == ~0u)
        std::copy_n(in, width, out);
      else
        for (size_t i = 0; i < width; ++i) out[i] = word >> i & 1 ? in[i] : -kInf;
    }
  }

  Look look(std::span<const float> logits, size_t from, size_t count) const {
    const auto is = [&](uint32_t value) {
      const auto words = mask_.subspan(from / 32, (count + 31) / 32);
      return std::ranges::all_of(words, [=](uint32_t word) { return word == value; });
    };
    if (mask_.empty() || is(~0u)) return look_at(logits.subspan(from, count));
    if (is(0)) return {};
    float scores[kPiece];
    copy(logits, from, count, scores);
    return look_at({scores, count});
  }

  // Whether so few may be chosen that the others need not be carried along.
  bool is_narrow(size_t num_ids) const {
    if (mask_.empty()) return false;
    size_t count = 0;
    for (size_t i = 0; i < mask_.size() && count < num_ids / 4; ++i)
      count += static_cast<size_t>(std::popcount(mask_[i]));
    return count < num_ids / 4;
  }

  std::span<const uint32_t> words() const { return mask_; }

 private:
  std::span<const uint32_t> mask_;
};

// All scores, as they stand where nothing changes them. False when one is NaN or +inf.
bool load_all(std::span<const float> logits, bool is_changed, const Allowed& allowed,
              SampleScratch& scratch) {
  scratch.token.clear();
  scratch.row = logits;
  if (is_changed || !allowed.words().empty()) {
    scratch.score.resize(logits.size());
    allowed.copy(logits, 0, logits.size(), scratch.score.data());
    scratch.row = scratch.score;
  }
  return look_at(scratch.row).is_fine;
}

// The scores that reach the floor, from the pieces of a row whose highest does.
void load_from(std::span<const float> logits, float floor, const Allowed& allowed,
               SampleScratch& scratch) {
  auto& score = scratch.score;
  auto& token = scratch.token;
  const auto& highest = scratch.highest;
  token.clear();
  size_t count = 0;
  for (size_t i = 0; i < highest.size(); ++i) {
    if (highest[i] < floor) continue;
    score.resize(count + kPiece);
    token.resize(count + kPiece);
    const size_t from = i * kPiece, end = std::min(from + kPiece, logits.size());
    for (size_t id = from; id < end; ++id) {
      score[count] = logits[id];
      token[count] = static_cast<int32_t>(id);
      count += logits[id] >= floor && allowed.has(id);
    }
  }
  score.resize(count);
  token.resize(count);
}

// The scores of the few ids that may be chosen. False when one is NaN or +inf.
bool load_allowed(std::span<const float> logits, const Allowed& allowed, SampleScratch& scratch) {
  scratch.score.clear();
  scratch.token.clear();
  const auto words = allowed.words();
  for (size_t i = 0; i < words.size(); ++i)
    for (uint32_t word = words[i]; word != 0; word &= word - 1) {
      const size_t id = 32 * i + static_cast<size_t>(std::countr_zero(word));
      if (id >= logits.size()) break;
      scratch.score.push_back(logits[id]);
      scratch.token.push_back(static_cast<int32_t>(id));
    }
  scratch.row = scratch.score;
  return look_at(scratch.row).is_fine;
}

// Takes the scores of a row over, as a copy if they will be changed; with needed > 0 only those
// that can be among so many of the best. If so many pieces of the row hold a score that reaches the
// floor, nothing below it is one of the best, and most pieces need no second look. What may not be
// chosen is nowhere looked at. False when a logit that may be chosen is NaN or +inf.
bool load(std::span<const float> logits, size_t needed, bool is_changed, const Allowed& allowed,
          SampleScratch& scratch) {
  if (allowed.is_narrow(logits.size())) return load_allowed(logits, allowed, scratch);
  if (needed == 0) return load_all(logits, is_changed, allowed, scratch);
  auto& highest = scratch.highest;
  highest.clear();
  for (size_t from = 0; from < logits.size(); from += kPiece) {
    const Look look = allowed.look(logits, from, std::min(kPiece, logits.size() - from));
    if (!look.is_fine) return false;
    highest.push_back(look.highest);
  }
  float floor = -kInf;
  if (needed < highest.size()) {
    auto& sorted = scratch.sorted;
    sorted = highest;
    const auto last = sorted.begin() + static_cast<ptrdiff_t>(needed) - 1;
    std::nth_element(sorted.begin(), last, sorted.end(), std::greater{});
    floor = *last;
  }
  if (floor == -kInf) return load_all(logits, is_changed, allowed, scratch);
  load_from(logits, floor, allowed, scratch);
  scratch.row = scratch.score;
  return true;
}

// Where an id stands in the scratch; -1: it is not among the scores.
ptrdiff_t place_of(int32_t id, const SampleScratch& s) {
  if (s.token.empty()) return id >= 0 && static_cast<size_t>(id) < s.row.size() ? id : -1;
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

// Masses are added up so that vectors can do it: ids by blocks, within a block by lanes of every
// eighth, the lanes in pairs, then the blocks in ascending order.
constexpr size_t kBlock = 256, kLanes = 8;

double sum_of_lanes(const double (&lane)[kLanes]) {
  return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

// The same operations in the same order, in wider vectors where the processor has them.
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
#define PLAIT_WIDER [[gnu::target_clones("avx2", "default")]]
#else
#define PLAIT_WIDER
#endif

// exponent = (score - best) / divisor, weight = exp(exponent), of so many scores.
PLAIT_WIDER void weigh(const float* score, size_t count, float best, float divisor, float* exponent,
                       float* weight) {
  for (size_t i = 0; i < count; ++i) exponent[i] = (score[i] - best) / divisor;
  for (size_t i = 0; i < count; ++i) weight[i] = small_exp(exponent[i]);
}

PLAIT_WIDER double sum_of_block(const float* weight) {
  double lane[kLanes] = {};
  for (size_t i = 0; i < kBlock; i += kLanes)
    for (size_t l = 0; l < kLanes; ++l) lane[l] += weight[i + l];
  return sum_of_lanes(lane);
}

struct Weigher {
  float best, divisor;

  Weigher(float highest, double temperature)
      : best(highest),
        divisor(std::max(static_cast<float>(temperature), std::numeric_limits<float>::min())) {}

  void operator()(const float* score, size_t count, float* exponent, float* weight) const {
    weigh(score, count, best, divisor, exponent, weight);
  }
};

// A block of a row.
struct Block {
  float exponent[kBlock];
  float weight[kBlock];
  size_t first = 0, count = 0;  // ids

  // Of a row where some ids are left out the block in which the place `at` is; `at` goes behind it,
  // and what is left out weighs nothing. Returns the mass: that of the whole row.
  double take(const SampleScratch& s, size_t& at, const Weigher& weigher) {
    if (s.token.empty()) {
      const double mass = load(s.row, first = at, weigher);
      at += count;
      return mass;
    }
    first = static_cast<size_t>(s.token[at]) / kBlock * kBlock;
    count = kBlock;
    std::fill(weight, weight + kBlock, 0.0f);
    for (; at < s.token.size() && static_cast<size_t>(s.token[at]) < first + kBlock; ++at) {
      const size_t i = static_cast<size_t>(s.token[at]) - first;
      weigher(&s.row[at], 1, exponent + i, weight + i);
    }
    return sum_of_block(weight);
  }

  // The one that begins at `first`; returns its mass.
  double load(std::span<const float> row, size_t first, const Weigher& weigher) {
    count = std::min(kBlock, row.size() - first);
    weigher(row.data() + first, count, exponent, weight);
    std::fill(weight + count, weight + kBlock, 0.0f);
    return sum_of_block(weight);
  }
};

double mass_of_row(const SampleScratch& s, const Weigher& weigher) {
  Block block;
  double total = 0.0;
  for (size_t at = 0; at < s.row.size();) total += block.take(s, at, weigher);
  return total;
}

// Inverse CDF over a whole row: the block in which the mass passes random * total, then the first
// id in it. Returns its place.
int32_t draw_from_row(const Weigher& weigher, double random, SampleScratch& s) {
  Block block;
  auto& masses = s.blocks;
  auto& begins = s.order;  // of each block, the place
  masses.clear();
  begins.clear();
  double total = 0.0;
  for (size_t at = 0; at < s.row.size();) {
    begins.push_back(static_cast<int32_t>(at));
    masses.push_back(block.take(s, at, weigher));
    total += masses.back();
  }
  const double wanted = random * total;
  double mass = 0.0, before = 0.0;
  size_t found = 0;
  for (size_t i = 0; i < masses.size(); ++i) {
    if (masses[i] > 0.0) found = i, before = mass;  // the last, should rounding let none pass
    mass += masses[i];
    if (mass > wanted) break;
  }
  auto at = static_cast<size_t>(begins[found]);
  block.take(s, at, weigher);
  size_t last = 0;
  for (size_t i = 0; i < block.count; ++i) {
    before += block.weight[i];
    if (block.weight[i] > 0.0f) last = i;
    if (before > wanted) break;
  }
  return static_cast<int32_t>(place_of(static_cast<int32_t>(block.first + last), s));
}

void make_room(SampleScratch& s, size_t count) {
  if (s.place.size() >= count && s.exponent.size() >= count && s.weight.size() >= count) return;
  s.place.resize(count);
  s.exponent.resize(count);
  s.weight.resize(count);
}

// Makes candidates of the possible places whose exponent reaches the floor; returns the mass of
// all.
double gather(const Weigher& weigher, float floor, SampleScratch& s) {
  constexpr size_t kPart = 32;  // most hold no candidate
  make_room(s, s.row.size());
  Block block;
  double total = 0.0;
  size_t kept = 0;
  for (size_t first = 0; first < s.row.size(); first += kBlock) {
    total += block.load(s.row, first, weigher);
    std::fill(block.exponent + block.count, block.exponent + kBlock, -kInf);
    for (size_t part = 0; part < block.count; part += kPart) {
      float highest = -kInf;
      for (size_t i = part; i < part + kPart; ++i) highest = std::max(highest, block.exponent[i]);
      if (highest < floor) continue;
      const size_t end = std::min(part + kPart, block.count);
      for (size_t i = part; i < end; ++i) {  // without a branch: which one stays is not foreseeable
        s.place[kept] = static_cast<int32_t>(first + i);
        s.exponent[kept] = block.exponent[i];
        s.weight[kept] = block.weight[i];
        kept += (block.exponent[i] >= floor) & (block.weight[i] > 0.0f);
      }
    }
  }
  s.count = kept;
  return s.token.empty() ? total : mass_of_row(s, weigher);
}

// Keeps the candidates for which keeps(index).
template <typename Keeps>
void keep_if(SampleScratch& s, const Keeps& keeps) {
  size_t kept = 0;
  for (size_t i = 0; i < s.count; ++i) {
    const bool stays = keeps(i);
    s.place[kept] = s.place[i];
    s.exponent[kept] = s.exponent[i];
    s.weight[kept] = s.weight[i];
    kept += stays;
  }
  s.count = kept;
}

// The mass of the candidates, added up as that of a whole row in which they alone are possible.
double mass_of_candidates(const SampleScratch& s) {
  double total = 0.0, lane[kLanes] = {};
  size_t block = 0;
  for (size_t i = 0; i < s.count; ++i) {
    const auto id = static_cast<size_t>(token_at(s.place[i], s));
    if (id / kBlock != block) {
      total += sum_of_lanes(lane);
      std::fill(lane, lane + kLanes, 0.0);
      block = id / kBlock;
    }
    lane[id % kLanes] += s.weight[i];
  }
  return total + sum_of_lanes(lane);
}

// The k places with the best scores, best first.
void order_best(SampleScratch& s, size_t k) {
  auto& order = s.order;
  order.resize(s.row.size());
  std::iota(order.begin(), order.end(), 0);
  auto better = [&, score = s.row](int32_t a, int32_t b) {
    return score[a] != score[b] ? score[a] > score[b] : a < b;
  };
  const auto middle = order.begin() + static_cast<ptrdiff_t>(k);
  constexpr size_t kHeap = 128;  // up to here a heap over one scan beats a partition
  if (k <= kHeap) {
    std::partial_sort(order.begin(), middle, order.end(), better);
  } else {
    if (middle != order.end()) std::nth_element(order.begin(), middle, order.end(), better);
    std::sort(order.begin(), middle, better);
  }
  order.resize(k);
}

// Makes candidates of the possible ones among the k best.
void keep_best(const Weigher& weigher, size_t k, SampleScratch& s) {
  order_best(s, k);
  std::sort(s.order.begin(), s.order.end());
  make_room(s, k);
  for (size_t i = 0; i < k; ++i) {
    s.place[i] = s.order[i];
    weigher(&s.row[s.order[i]], 1, &s.exponent[i], &s.weight[i]);
  }
  s.count = k;
  keep_if(s, [&](size_t i) { return s.weight[i] > 0.0f; });
}

constexpr int kBuckets = 256;  // a quarter of a nat each

// Keeps the fewest candidates, in ascending order of key (>= 0; ties by lower place), whose masses
// reach `wanted`. Nothing is sorted but the bucket in which they end: the mass of the buckets
// before it is all that matters of them. False, and nothing has changed, if they do not end in the
// first `complete` buckets, beyond which candidates are missing.
template <typename Key>
bool keep_share(SampleScratch& s, double wanted, int complete, const Key& key) {
  double mass_of[kBuckets] = {};
  if (s.bucket.size() < s.count) s.bucket.resize(s.count);
  for (size_t i = 0; i < s.count; ++i) {
    const int number = static_cast<int>(std::min<double>(4.0 * key(i), kBuckets - 1));
    s.bucket[i] = static_cast<int16_t>(number);
    mass_of[number] += s.weight[i];
  }
  int last = 0;
  double mass = 0.0;
  while (last < kBuckets - 1 && mass + mass_of[last] < wanted) mass += mass_of[last++];
  if (last >= complete) return false;
  s.edge.clear();
  for (size_t i = 0; i < s.count; ++i)
    if (s.bucket[i] == last) s.edge.push_back(static_cast<int32_t>(i));
  std::sort(s.edge.begin(), s.edge.end(), [&](int32_t a, int32_t b) {
    const double ka = key(a), kb = key(b);
    return ka != kb ? ka < kb : a < b;
  });
  for (int32_t i : s.edge) {
    if (mass >= wanted) s.bucket[i] = kBuckets;
    mass += s.weight[i];
  }
  keep_if(s, [&](size_t i) { return s.bucket[i] <= last; });
  return true;
}

// total: the mass of all that is possible, candidate or not.
bool keep_top_p(SampleScratch& s, double top_p, double total, int complete) {
  return keep_share(s, top_p * total, complete, [&](size_t i) { return -s.exponent[i]; });
}

void keep_min_p(SampleScratch& s, double min_p) {
  double best = 0.0;
  for (size_t i = 0; i < s.count; ++i) best = std::max<double>(best, s.weight[i]);
  keep_if(s, [&](size_t i) { return !(s.weight[i] < min_p * best); });
}

// Locally typical sampling (arXiv:2202.00666): the tokens whose surprise is nearest to the entropy.
// The logarithm of the total cancels in |-log p - H|, which leaves |mean exponent - exponent|.
void keep_typical(SampleScratch& s, double typical_p) {
  double weighted = 0.0, total = 0.0;
  for (size_t i = 0; i < s.count; ++i) {
    weighted += static_cast<double>(s.weight[i]) * s.exponent[i];
    total += s.weight[i];
  }
  const double mean = weighted / total;
  keep_share(s, typical_p * mass_of_candidates(s), kBuckets,
             [&](size_t i) { return std::abs(mean - s.exponent[i]); });
}

void filter(const SampleSettings& settings, const Weigher& weigher, SampleScratch& s) {
  const auto top_k = static_cast<size_t>(std::max<int64_t>(settings.top_k, 0));
  if (top_k > 0 && (top_k < s.row.size() || !s.token.empty())) {
    keep_best(weigher, std::min(top_k, s.row.size()), s);
    if (settings.top_p < 1.0) keep_top_p(s, settings.top_p, mass_of_candidates(s), kBuckets);
  } else if (settings.top_p < 1.0) {
    constexpr int kNear = 8;  // nats in which the mass mostly lies
    const double total = gather(weigher, -kNear, s);
    if (!keep_top_p(s, settings.top_p, total, 4 * kNear)) {
      gather(weigher, -kInf, s);
      keep_top_p(s, settings.top_p, total, kBuckets);
    }
  } else {
    gather(weigher, -kInf, s);
  }
  if (settings.min_p > 0.0) keep_min_p(s, settings.min_p);
  if (settings.typical_p < 1.0) keep_typical(s, settings.typical_p);
}

// Inverse CDF: the first candidate, in ascending order, at which the mass passes random * total.
int32_t draw(double random, const SampleScratch& s) {
  double total = 0.0, mass = 0.0;
  for (size_t i = 0; i < s.count; ++i) total += s.weight[i];
  const double wanted = random * total;
  for (size_t i = 0; i < s.count; ++i) {
    mass += s.weight[i];
    if (mass > wanted) return s.place[i];
  }
  return s.place[s.count - 1];  // random * total was rounded up to the total
}

int32_t choose(const SampleSettings& settings, float best, double random, SampleScratch& s) {
  const Weigher weigher(best, settings.temperature);
  const bool has_filter = settings.top_k > 0 || settings.top_p < 1.0 || settings.min_p > 0.0 ||
                          settings.typical_p < 1.0;
  if (!has_filter) return draw_from_row(weigher, random, s);
  filter(settings, weigher, s);
  return draw(random, s);
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
  if (!load(logits, needed, is_changed, Allowed(settings.mask), scratch))
    return RowState::kNotANumber;
  if (is_changed) process(settings, is_held, scratch);
  const auto row = scratch.row;
  const float best = look_at(row).highest;
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
  if (!load(logits, 0, false, Allowed({}), scratch)) return RowState::kNotANumber;
  const auto score = scratch.row;
  const double best = look_at(score).highest;
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
