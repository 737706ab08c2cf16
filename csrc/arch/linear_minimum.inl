// Formats with blocks of 32 and a minimum; floats.
#include "linear_entry.h"
#include "linear_f32.h"
#include "linear_int8.h"
#include "quant/formats.h"

namespace plait::PLAIT_ISA {

template void linear_int8_of<quant::Q4_1>(const LinearCall&, const QuantizedRows&);
template void linear_f32_of<quant::Q4_1>(const LinearCall&, const float*, int64_t);
template void linear_int8_of<quant::Q5_1>(const LinearCall&, const QuantizedRows&);
template void linear_f32_of<quant::Q5_1>(const LinearCall&, const float*, int64_t);
template void linear_f32_of<Format::f32>(const LinearCall&, const float*, int64_t);
template void linear_f32_of<Format::f16>(const LinearCall&, const float*, int64_t);
template void linear_f32_of<Format::bf16>(const LinearCall&, const float*, int64_t);

}  // namespace plait::PLAIT_ISA
