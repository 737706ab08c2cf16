// Formats with blocks of 32 and no minimum.
#include "linear_entry.h"
#include "linear_f32.h"
#include "linear_int8.h"
#include "quant/formats.h"

namespace plait::PLAIT_ISA {

template void linear_int8_of<quant::Q4_0>(const LinearCall&, const QuantizedRows&);
template void linear_f32_of<quant::Q4_0>(const LinearCall&, const float*, int64_t);
template void linear_int8_of<quant::Q5_0>(const LinearCall&, const QuantizedRows&);
template void linear_f32_of<quant::Q5_0>(const LinearCall&, const float*, int64_t);
template void linear_int8_of<quant::Q8_0>(const LinearCall&, const QuantizedRows&);
template void linear_f32_of<quant::Q8_0>(const LinearCall&, const float*, int64_t);
template void linear_int8_of<quant::IQ4_NL>(const LinearCall&, const QuantizedRows&);
template void linear_f32_of<quant::IQ4_NL>(const LinearCall&, const float*, int64_t);

}  // namespace plait::PLAIT_ISA
