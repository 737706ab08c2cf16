// What this machine can do at most, and how long the kernels take: for `plait bench`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "plait/cpu.h"
#include "plait/linear.h"
#include "plait/threads.h"

namespace plait {

constexpr int kReadStreams = 4;  // per thread: one alone understates what the memory gives

// Seconds of each of `passes` passes in which the pool reads `bytes` bytes once, kReadStreams
// streams per thread. The first pass follows the one that wrote the memory. Throws std::bad_alloc.
std::vector<double> read_seconds(Isa isa, Pool& pool, size_t bytes, int passes);

// Multiply-accumulates per second of all workers together, best of `passes` short runs, operands in
// registers: u8 x s8 products as this set's int8 kernels make them, without widening or scales.
double multiply_rate(Isa isa, Pool& pool, int passes);

// Seconds of each of `passes` passes of y = x W^T over all the matrices, one after the other with a
// barrier behind each, for `num_rows` rows of quantised x. All matrices have the same shape.
std::vector<double> linear_seconds(Isa isa, Pool& pool,
                                   const std::vector<const PackedMatrix*>& matrices,
                                   const QuantizedRows& x, int64_t num_rows, int passes);

}  // namespace plait
