#include <atomic>

#include "plait/linear.h"
#include "quant/sparse_panel.h"

namespace plait {

bool has_sparse_panels(Format format) {
  return format == Format::q4_0 || format == Format::q8_0 || format == Format::q6_k;
}

namespace quant {
namespace {

// All blocks of all rows; stops soon after another worker found one that does not fit.
template <class F>
bool all_fit(const uint8_t* raw, size_t num_blocks, const std::atomic<bool>& go_on) {
  constexpr size_t kSteps = 1024;
  RowBlock block{};
  for (size_t i = 0; i < num_blocks; ++i) {
    if (i % kSteps == 0 && !go_on.load(std::memory_order_relaxed)) return true;
    F::read(raw + i * block_bytes(F::kFormat), block);
    if (!SparsePanel<F>::fits(block)) return false;
  }
  return true;
}

}  // namespace

bool is_two_of_four(Format format, int64_t rows, int64_t cols, const uint8_t* raw, Pool& pool) {
  if (!has_sparse_panels(format)) return false;
  const int64_t row_blocks = cols / block_size(format);
  std::atomic<bool> fits = true;
  pool.run([&](int worker) {
    const Share share = share_of(rows, 1, worker, pool.size());
    const uint8_t* from = raw + static_cast<size_t>(share.begin * row_blocks) * block_bytes(format);
    const auto num_blocks = static_cast<size_t>((share.end - share.begin) * row_blocks);
    const bool mine =
        visit_sparse(format, [&]<class F>() { return all_fit<F>(from, num_blocks, fits); });
    if (!mine) fits.store(false, std::memory_order_relaxed);
  });
  return fits;
}

}  // namespace quant
}  // namespace plait
