// The head of a model when only the best logits are asked for: argmax and top-k found while a part
// of the vocabulary matrix is read.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "plait/plan.h"
#include "plait/screen.h"

namespace plait {

// Of one row of activations, all workers together:
//   1. The screen gives bounds [lower, upper] of every logit. Each worker computes those of its
//      rows of W that have the best lower bounds.
//   2. The k-th best of the logits computed so far is a threshold: k logits reach it. Every panel
//      with a row whose upper bound reaches it too is computed, all others become -inf.
// Logits that are computed are linear_int8's, to the bit. The bounds are probable, not certain
// (plait/screen.h): each computed logit is compared with its own, and one that lies above makes the
// step compute the whole matrix. So does a threshold that leaves more than a quarter of the panels.
class Head {
 public:
  Head(std::shared_ptr<const PackedMatrix> weights, int workers);

  // Is run() likely to be faster than the whole product for rows that need so many logits? Asked by
  // every worker before a barrier; after it one of them calls skip() if not.
  bool pays(const int32_t* best, int64_t rows) const;
  void skip(const int32_t* best, int64_t rows);

  // Called by every worker. best[rows]: how many of the best logits each row needs, at least 1.
  void run(const Step& step, const QuantizedRows& x, const int32_t* best, int64_t rows,
           const LinearOutput& out);

  HeadCounts counts() const;

 private:
  struct Part;  // of a worker

  void compute_best(const Part& part, int64_t row);
  float threshold(int64_t row, int32_t count) const;
  void settle(const Part& part, int64_t row, float threshold);
  void compute_panel(const Part& part, int64_t row, int64_t panel);
  void compute_all(const Part& part, int64_t row, int64_t num_rows);
  void learn(const int32_t* best, int64_t rows);

  std::shared_ptr<const PackedMatrix> weights_;
  std::vector<std::vector<BestRows>> best_;  // [worker][row]
  std::atomic<int64_t> broken_in_{0};        // the last run in which a bound did not hold
  // For rows that need one logit, and for those that need more: which share of the panels was
  // computed lately.
  float share_[2] = {0, 0};
  int64_t last_panels_ = 0;
  std::atomic<int64_t> rows_{0}, panels_{0}, wide_{0}, broken_{0};
};

}  // namespace plait
