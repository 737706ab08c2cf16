// A row of logits as sampling sees it: what may be chosen, what may be among the best, and what the
// request's parameters change of it.
#pragma once

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <limits>
#include <span>

#include "plait/sample.h"

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
  // not be chosen. Most words of a grammar's masks are all or nothing, and stand in long runs.
  void copy(std::span<const float> logits, size_t from, size_t count, float* out) const {
    std::copy_n(logits.data() + from, count, out);
    if (mask_.empty()) return;
    for (const size_t end = from + count; from < end; from += 32, out += 32) {
      const uint32_t word = mask_[from / 32];
      if (word == ~0u) continue;
      const size_t width = std::min<size_t>(32, end - from);
      for (size_t i = 0; i < width; ++i) out[i] = word >> i & 1 ? out[i] : -kInf;
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

// All scores, as they stand where nothing changes them. A copy is looked at while it is near.
Look load_all(std::span<const float> logits, bool is_changed, const Allowed& allowed,
              SampleScratch& scratch) {
  constexpr size_t kNear = 2048;
  scratch.token.clear();
  scratch.row = logits;
  if (!is_changed && allowed.words().empty()) return look_at(logits);
  scratch.score.resize(logits.size());
  scratch.row = scratch.score;
  Look all;
  for (size_t from = 0; from < logits.size(); from += kNear) {
    const size_t count = std::min(kNear, logits.size() - from);
    allowed.copy(logits, from, count, scratch.score.data() + from);
    const Look look = look_at(scratch.row.subspan(from, count));
    all = {std::max(all.highest, look.highest), all.is_fine && look.is_fine};
  }
  return all;
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

// The scores of the few ids that may be chosen.
Look load_allowed(std::span<const float> logits, const Allowed& allowed, SampleScratch& scratch) {
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
  return look_at(scratch.row);
}

// Takes the scores of a row over, as a copy if they will be changed; with needed > 0 only those
// that can be among so many of the best. If so many pieces of the row hold a score that reaches the
// floor, nothing below it is one of the best, and most pieces need no second look. What may not be
// chosen is nowhere looked at. Returns what was seen of all that may be chosen.
Look load(std::span<const float> logits, size_t needed, bool is_changed, const Allowed& allowed,
          SampleScratch& scratch) {
  if (allowed.is_narrow(logits.size())) return load_allowed(logits, allowed, scratch);
  if (needed == 0) return load_all(logits, is_changed, allowed, scratch);
  auto& highest = scratch.highest;
  highest.clear();
  Look all;
  for (size_t from = 0; from < logits.size(); from += kPiece) {
    const Look look = allowed.look(logits, from, std::min(kPiece, logits.size() - from));
    if (!look.is_fine) return look;
    all.highest = std::max(all.highest, look.highest);
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
  return all;
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

}  // namespace
}  // namespace plait
