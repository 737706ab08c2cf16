#include "plait/rows.h"

namespace plait {

namespace generic {
const RowKernels& row_table();
}
namespace avx2 {
const RowKernels& row_table();
}

const RowKernels& row_kernels(Isa isa) {
#if defined(PLAIT_HAS_avx2)
  if (isa != Isa::generic) return avx2::row_table();
#endif
  (void)isa;
  return generic::row_table();
}

}  // namespace plait
