// The masses of a row, the candidates that filters leave of it, and a draw among them.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "sample_scores.h"

namespace plait {
namespace {

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

}  // namespace
}  // namespace plait
