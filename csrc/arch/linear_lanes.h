// Vectors of panel lanes: one row per 32-bit lane. Each of the files below provides the same names:
//
//   Bytes, Ints, Floats    4 columns, one integer or one float per row; Bytes and Ints are one type
//   kVectorPanels          panels (of 8 rows) in a vector
//   kHasDot, PLAIT_HAS_DOT `dot` sums the 4 products of a lane into 32 bits in one step, and
//                          `multiply_both` weighs two such sums that fit into 16 bits; else
//                          `pair_dot` adds products in pairs to 16 bits
//   PLAIT_HAS_MATRIX       `matrix` multiplies 2 rows by 2 tokens in one step
//   kTakesSigned           `dot` and `pair_dot` take signed weights, else unsigned ones
#pragma once

#if defined(__AVX512VNNI__)
#include "linear_lanes_avx512.h"
#elif defined(__AVX2__)
#include "linear_lanes_avx2.h"
#elif defined(__aarch64__)
#include "linear_lanes_neon.h"
#endif
