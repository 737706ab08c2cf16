// The screen of a large matrix: from a part of its bytes, bounds of every result, so that only the
// few results that can be among the best have to be computed.
#pragma once

#include <vector>

#include "plait/linear.h"

namespace plait {

// How far a result may lie from what the high bits of the weights and the middle of the low ones'
// range say, in units of sqrt(sum of scale^2 |x|^2, over the groups of columns that share a scale):
// eight standard deviations. The low bits are 0 to 15; around 7.5 their standard deviation is
// sqrt(255 / 12). If they were independent and uniform, a sum of them weighted with x would leave
// this range with a probability below 2 exp(-32) (a uniform variable is strictly subgaussian). They
// are numbers of a file, so whoever relies on the bounds compares every result that is computed
// with its own: see ops/head.h.
constexpr float kScreenMargin = 8.0f * 4.60977223f;

// The rows of W with the best lower bounds, for one row of activations.
struct BestRows {
  struct Entry {
    float bound;
    int64_t row;
  };

  size_t count = 0;                   // how many are kept
  const uint32_t* allowed = nullptr;  // see Batch::allowed; rows that it leaves out are not kept
  float floor = 0;                    // what is not above it need not be offered
  std::vector<Entry> kept;            // a heap, the lowest bound first

  void start(int new_count, const uint32_t* new_allowed);
  void offer(float bound, int64_t row);
};

// Bounds of what linear_int8 gives for a matrix in planes, from the high plane alone. The upper
// ones go to `out` (without bias, not accumulated), the lower ones are offered to best[num_rows].
void screen_int8(Isa isa, const PackedMatrix& weights, const QuantizedRows& x, int64_t num_rows,
                 int64_t panel_begin, int64_t panel_end, const LinearOutput& out,
                 LinearScratch& scratch, BestRows* best);

}  // namespace plait
