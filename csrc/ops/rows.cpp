#include "plait/rows.h"

namespace plait {

namespace generic {
const RowKernels& row_table();
}
namespace avx2 {
const RowKernels& row_table();
}
namespace neon {
const RowKernels& row_table();
}

// The sets of a processor family differ in their linear kernels only.
const RowKernels& row_kernels(Isa isa) {
#if defined(PLAIT_HAS_avx2)
  if (isa != Isa::generic) return avx2::row_table();
#elif defined(PLAIT_HAS_neon)
  if (isa != Isa::generic) return neon::row_table();
#endif
  (void)isa;
  return generic::row_table();
}

}  // namespace plait
