// K-quants.
#include "linear_entry.h"
#include "linear_f32.h"
#include "linear_int8.h"
#include "quant/formats.h"

namespace plait::PLAIT_ISA {

template void linear_int8_of<quant::Q2_K>(const LinearCall&, const QuantizedRows&);
template void linear_f32_of<quant::Q2_K>(const LinearCall&, const float*, int64_t);
template void linear_int8_of<quant::Q3_K>(const LinearCall&, const QuantizedRows&);
template void linear_f32_of<quant::Q3_K>(const LinearCall&, const float*, int64_t);
template void linear_int8_of<quant::Q4_K>(const LinearCall&, const QuantizedRows&);
template void linear_f32_of<quant::Q4_K>(const LinearCall&, const float*, int64_t);
template void linear_int8_of<quant::Q5_K>(const LinearCall&, const QuantizedRows&);
template void linear_f32_of<quant::Q5_K>(const LinearCall&, const float*, int64_t);
template void linear_int8_of<quant::Q6_K>(const LinearCall&, const QuantizedRows&);
template void linear_f32_of<quant::Q6_K>(const LinearCall&, const float*, int64_t);

}  // namespace plait::PLAIT_ISA
