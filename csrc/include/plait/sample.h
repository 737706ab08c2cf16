// Choosing a token from one row of logits, and the log-probabilities of a row.
//
// Everything here is a function of its arguments alone: sums are float64 in one order of the ids,
// the exponential is our own, and random numbers are counted, not drawn from a stream. Scores and
// weights are float32, as the logits are. The NumPy twin (src/plait/kernels/sampling_reference.py)
// does the same operations in the same order and agrees bit for bit, so nothing here may be
// re-associated or contracted (the build sets -ffp-contract=off).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace plait {

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11).
std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// The random number of (seed, position): in [0, 1), a multiple of 2^-53. Counter (position low,
// position high, 0, 0), key (seed low, seed high), first two output words as the 64-bit number
// w0 * 2^32 + w1, of which the upper 53 bits count.
double uniform(uint64_t seed, uint64_t position);

// The exponential that weighs tokens: exp(x) for x <= 0, within 2^-21 of it; 0 below -87.
float exp_nonpositive(float x);

// What a request asks of its rows. Ids outside the vocabulary are ignored.
struct SampleSettings {
  double temperature = 1.0;  // 0: the best token
  int64_t top_k = 0;         // <= 0: off
  double top_p = 1.0;
  double min_p = 0.0;
  double typical_p = 1.0;
  double repetition_penalty = 1.0;
  double presence_penalty = 0.0;
  double frequency_penalty = 0.0;
  std::span<const int32_t> history;  // decided tokens: the prompt, then the output
  size_t num_prompt = 0;             // how many of them are the prompt
  std::span<const int32_t> bias_ids;
  std::span<const double> bias;        // added to the scores of bias_ids
  std::span<const int32_t> forbidden;  // never chosen
  std::span<const int32_t> held;       // not chosen yet (min_tokens)
  uint64_t seed = 0;
  std::span<const uint32_t> mask;  // bit i % 32 of word i / 32: id i may be chosen; empty: all
};

// token: the choice. confidence: its probability at temperature 1 after bias and penalties and
// before the filters, so that neither sharpens it.
struct Choice {
  int32_t token = -1;
  double confidence = 0.0;
};

enum class RowState { kFine, kNotANumber, kNothingLeft };

// Memory that calls reuse; one per thread. A choice is made among places: row[i] is the score of
// token[i], ascending, or of i where `token` is empty because all scores are there. `row` lies in
// `score`, or is the logits themselves where nothing changes them.
struct SampleScratch {
  std::span<const float> row;
  std::vector<float> score;
  std::vector<float> highest, sorted;  // of the pieces of a row
  std::vector<int32_t> token, counts, order;
  // Candidates: place, exponent and weight of the first `count`, ascending by place.
  size_t count = 0;
  std::vector<int32_t> place;
  std::vector<float> exponent, weight;
  std::vector<int16_t> bucket;
  std::vector<int32_t> edge;
  std::vector<double> blocks, logprob;
};

// Chooses a token. In order: ids that the mask, `held` or `forbidden` rule out leave; logit bias;
// repetition penalty over the whole history (scores above 0 are divided, the others multiplied),
// frequency and presence penalty over the output; then either the best score (temperature 0) or:
// top_k, softmax at the temperature, top_p, min_p, typical_p, each on what the one before left,
// renormalised; one draw by inverse CDF in ascending id order. Ties go to the lower id everywhere.
// kNotANumber: a logit that may be chosen is NaN or +inf; kNothingLeft: every score is -inf.
// confidence is filled in only when asked for.
RowState sample_row(std::span<const float> logits, const SampleSettings& settings, bool is_held,
                    uint64_t position, bool want_confidence, SampleScratch& scratch,
                    Choice& choice);

// Log-probabilities of a raw row (before any processor).
struct RowLogprobs {
  double token = 0.0;            // of the token asked about
  int32_t rank = 0;              // 1 + number of more probable tokens
  std::span<const int32_t> top;  // the most probable ids, ties by lower id; lies in the scratch
  std::span<const double> top_logprob;  // one each; lies in the scratch
};
RowState logprobs_row(std::span<const float> logits, int32_t token, size_t num_top,
                      SampleScratch& scratch, RowLogprobs& result);

}  // namespace plait
