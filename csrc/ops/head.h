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
//
// A row that may choose only some of the columns has its bounds and its threshold of those alone.
// If they lie in few panels there is nothing to search: these are computed, and the screen is left
// out if all rows of the step are of this kind.
class Head {
 public:
  Head(std::shared_ptr<const PackedMatrix> weights, int workers);

  // Is run() likely to be faster than the whole product for the rows that a batch wants? Each needs
  // at least one of its best logits. Asked by every worker before a barrier; after it one of them
  // calls skip() if not.
  bool pays(const Step& step);
  void skip(const Batch& batch);

  // Called by every worker.
  void run(const Step& step, const QuantizedRows& x, const LinearOutput& out);

  HeadCounts counts() const;

 private:
  struct Part;  // of a worker

  void compute_best(const Part& part, int64_t row);
  float threshold(int64_t row, int32_t count) const;
  void screen(const Part& part);
  void settle(const Part& part, int64_t row, float threshold);
  void compute_allowed(const Part& part, int64_t row);
  void compute_panel(const Part& part, int64_t row, int64_t panel);
  void compute_all(const Part& part, int64_t row, int64_t num_rows);
  void learn(const Batch& batch, int64_t searched);
  bool is_narrow(const Batch& batch, int64_t row) const;

  std::shared_ptr<const PackedMatrix> weights_;
  // Of a worker. is_narrow: of each row, what all workers find out by themselves.
  struct Own {
    std::vector<BestRows> best;
    std::vector<bool> is_narrow;
    int64_t num_searched = 0;
  };
  std::vector<Own> own_;
  std::atomic<int64_t> broken_in_{0};  // the last run in which a bound did not hold
  // Which share of the panels was computed lately, by kind_of(batch).
  float share_[4] = {0, 0, 0, 0};
  int64_t last_panels_ = 0;
  std::atomic<int64_t> rows_{0}, panels_{0}, wide_{0}, broken_{0}, narrow_{0};
};

}  // namespace plait
