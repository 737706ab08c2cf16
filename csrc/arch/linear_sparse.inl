// 2:4 sparse panels.
#include "linear_entry.h"
#include "linear_sparse.h"

namespace plait::PLAIT_ISA {

template void linear_sparse_of<quant::Q4_0>(const LinearCall&, const QuantizedRows&);
template void linear_sparse_of<quant::Q8_0>(const LinearCall&, const QuantizedRows&);
template void linear_sparse_of<quant::Q6_K>(const LinearCall&, const QuantizedRows&);

}  // namespace plait::PLAIT_ISA
