#include "plait/measure.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>

#include "ops/measure_table.h"

namespace plait {

namespace generic {
const MeasureTable& measure_table();
}
namespace avx2 {
const MeasureTable& measure_table();
}
namespace avxvnni {
const MeasureTable& measure_table();
}
namespace avx512vnni {
const MeasureTable& measure_table();
}

namespace {

constexpr size_t kReadGrain = 256;
constexpr int64_t kMultiplyRounds = 1 << 20;

const MeasureTable& table_of(Isa isa) {
#if defined(PLAIT_HAS_avx512vnni)
  if (isa == Isa::avx512vnni) return avx512vnni::measure_table();
#endif
#if defined(PLAIT_HAS_avxvnni)
  if (isa == Isa::avxvnni) return avxvnni::measure_table();
#endif
#if defined(PLAIT_HAS_avx2)
  if (isa == Isa::avx2) return avx2::measure_table();
#endif
  (void)isa;
  return generic::measure_table();
}

double seconds_of(Pool& pool, const std::function<void(int)>& task) {
  const auto began = std::chrono::steady_clock::now();
  pool.run(task);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

// Results that nobody wants must still be computed.
void use(uint64_t digest) {
  asm volatile("" : : "r"(digest) : "memory");
}

}  // namespace

std::vector<double> read_seconds(Isa isa, Pool& pool, size_t bytes, int passes) {
  const size_t threads = static_cast<size_t>(pool.size());
  const size_t stream =
      std::max(bytes / threads / kReadStreams / kReadGrain, size_t{1}) * kReadGrain;
  const size_t share = stream * kReadStreams;
  Buffer memory(share * threads);
  const auto mine = [&](int worker) { return memory.data() + share * static_cast<size_t>(worker); };
  pool.run([&](int worker) { std::memset(mine(worker), worker + 1, share); });
  std::vector<double> seconds;
  for (int pass = 0; pass < passes; ++pass)
    seconds.push_back(
        seconds_of(pool, [&](int worker) { use(table_of(isa).read(mine(worker), stream)); }));
  return seconds;
}

double multiply_rate(Isa isa, Pool& pool, int passes) {
  const MeasureTable& table = table_of(isa);
  const double work = static_cast<double>(table.macs_per_round) * kMultiplyRounds * pool.size();
  double best = 0;
  for (int pass = 0; pass < passes; ++pass)
    best =
        std::max(best, work / seconds_of(pool, [&](int) { use(table.multiply(kMultiplyRounds)); }));
  return best;
}

std::vector<double> linear_seconds(Isa isa, Pool& pool,
                                   const std::vector<const PackedMatrix*>& matrices,
                                   const QuantizedRows& x, int64_t num_rows, int passes) {
  const int64_t rows = matrices.front()->rows();
  std::vector<float> result(static_cast<size_t>(num_rows * rows));
  const LinearOutput out{result.data(), rows, nullptr, false};
  std::vector<double> seconds;
  for (int pass = 0; pass < passes; ++pass)
    seconds.push_back(seconds_of(pool, [&](int worker) {
      static thread_local LinearScratch scratch;
      for (const PackedMatrix* matrix : matrices) {
        const Share share = share_of(matrix->num_panels(), 1, worker, pool.size());
        linear_int8(isa, *matrix, x, num_rows, share.begin, share.end, out, scratch);
        pool.barrier();
      }
    }));
  return seconds;
}

}  // namespace plait
