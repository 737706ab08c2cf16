// All block formats, and the step from a Format known at run time to one known to the compiler.
#pragma once

#include <cstdlib>
#include <utility>

#include "quant/iq4_nl.h"
#include "quant/q2_k.h"
#include "quant/q3_k.h"
#include "quant/q4_0.h"
#include "quant/q4_1.h"
#include "quant/q4_k.h"
#include "quant/q5_0.h"
#include "quant/q5_1.h"
#include "quant/q5_k.h"
#include "quant/q6_k.h"
#include "quant/q8_0.h"

namespace plait::quant {

inline bool is_float(Format format) {
  return format == Format::f32 || format == Format::f16 || format == Format::bf16;
}

// Calls visitor.template operator()<F>() for the block format `format`, which is not a float.
template <class Visitor>
inline decltype(auto) visit(Format format, Visitor&& visitor) {
  switch (format) {
    case Format::q4_0:
      return visitor.template operator()<Q4_0>();
    case Format::q4_1:
      return visitor.template operator()<Q4_1>();
    case Format::q5_0:
      return visitor.template operator()<Q5_0>();
    case Format::q5_1:
      return visitor.template operator()<Q5_1>();
    case Format::q8_0:
      return visitor.template operator()<Q8_0>();
    case Format::q2_k:
      return visitor.template operator()<Q2_K>();
    case Format::q3_k:
      return visitor.template operator()<Q3_K>();
    case Format::q4_k:
      return visitor.template operator()<Q4_K>();
    case Format::q5_k:
      return visitor.template operator()<Q5_K>();
    case Format::q6_k:
      return visitor.template operator()<Q6_K>();
    case Format::iq4_nl:
      return visitor.template operator()<IQ4_NL>();
    case Format::f32:
    case Format::f16:
    case Format::bf16:
      break;
  }
  std::abort();
}

}  // namespace plait::quant
