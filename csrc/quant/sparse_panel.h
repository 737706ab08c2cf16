// The packed layout of 2:4 sparse matrices: of every four neighbouring columns at most two are not
// zero, and those two are stored with the two bits each that say which they are. As Panel, with per
// 32 columns, whose 8 groups of 4 hold 16 values = 4 chunks of the values of two groups:
//
//   low bits, high bits    as there, of 4 chunks
//   places                 2 bits per value, all 4 chunks in one 32-byte vector
//
// Byte 4 row + i of a vector belongs to value i % 2 of group i / 2 of its chunk.
#pragma once

#include "plait/linear.h"
#include "quant/formats.h"
#include "quant/panel.h"

namespace plait::quant {

template <class F>
struct SparsePanel : Panel<F> {
  using Dense = Panel<F>;
  static constexpr int kLowBytes = Dense::kLowBytes / 2;
  static constexpr int kPlacesAt = Dense::kBlockBytes / 2;
  static constexpr int kBlockBytes = kPlacesAt + 32;
  static constexpr int kUnitBytes = Dense::kHeaderBytes + Dense::kUnitBlocks * kBlockBytes;
  static constexpr uint8_t kZero = F::kCodes == Codes::offset ? F::kOffset : 0;
  static_assert(!Dense::kHasMin && F::kCodes != Codes::table, "the format has no exact zero");
  static_assert(F::kBits % 2 == 0, "half a vector of high bits has no place");

  // Is this true of a block's codes: at most two of each four are not zero?
  static bool fits(const RowBlock& block) {
    for (int first = 0; first < Dense::kUnitColumns; first += 4) {
      int count = 0;
      for (int i = 0; i < 4; ++i) count += block.codes[first + i] != kZero;
      if (count > 2) return false;
    }
    return true;
  }

  // As Panel::store, from blocks that fit.
  static void store(const RowBlock (&rows)[kPanelRows], uint8_t* unit) {
    for (int row = 0; row < kPanelRows; ++row) {
      Dense::store_header(rows[row], row, unit);
      for (int block = 0; block < Dense::kUnitBlocks; ++block) {
        uint8_t values[16], places[16];
        take_apart(rows[row].codes + 32 * block, values, places);
        uint8_t* vectors = unit + Dense::kHeaderBytes + block * kBlockBytes;
        Dense::template merge<Dense::kLowBits, 0, Dense::kLowBits / 2>(values, row, vectors);
        if constexpr (Dense::kHighBits > 0)
          Dense::template merge<Dense::kHighBits, Dense::kLowBits, Dense::kHighBits / 2>(
              values, row, vectors + kLowBytes);
        Dense::template merge<2, 0, 1>(places, row, vectors + kPlacesAt);
      }
    }
  }

  // The inverse of store.
  static void load(const uint8_t* unit, int row, RowBlock& out) {
    Dense::load_header(unit, row, out);
    std::memset(out.codes, kZero, Dense::kUnitColumns);
    for (int chunk = 0; chunk < Dense::kUnitColumns / 8; ++chunk) {
      const uint8_t* block = unit + Dense::kHeaderBytes + chunk / 4 * kBlockBytes;
      uint32_t codes =
          Dense::template extract<Dense::kLowBits>(chunk % 4, row, block) & Dense::kLowMask;
      if constexpr (Dense::kHighBits > 0)
        codes |= (Dense::template extract<Dense::kHighBits>(chunk % 4, row, block + kLowBytes) &
                  Dense::kHighMask)
                 << Dense::kLowBits;
      const uint32_t places = Dense::template extract<2>(chunk % 4, row, block + kPlacesAt);
      for (int i = 0; i < 4; ++i)
        out.codes[8 * chunk + i / 2 * 4 + (places >> 8 * i & 3)] =
            static_cast<uint8_t>(codes >> 8 * i);
    }
  }

 private:
  // 32 codes as two of each four and their places. A group with fewer has zeros stored, at places
  // of their own.
  static void take_apart(const uint8_t* codes, uint8_t* values, uint8_t* places) {
    for (int group = 0; group < 8; ++group) {
      uint8_t* place = places + 2 * group;
      int count = 0;
      for (int i = 0; i < 4 && count < 2; ++i)
        if (codes[4 * group + i] != kZero) place[count++] = static_cast<uint8_t>(i);
      if (count == 0) place[count++] = 0;
      if (count == 1) place[1] = static_cast<uint8_t>((place[0] + 1) % 4);
      for (int i = 0; i < 2; ++i) values[2 * group + i] = codes[4 * group + place[i]];
    }
  }
};

// Calls visitor.template operator()<F>() for a format with sparse panels.
template <class Visitor>
inline decltype(auto) visit_sparse(Format format, Visitor&& visitor) {
  switch (format) {
    case Format::q4_0:
      return visitor.template operator()<Q4_0>();
    case Format::q8_0:
      return visitor.template operator()<Q8_0>();
    case Format::q6_k:
      return visitor.template operator()<Q6_K>();
    default:
      std::abort();
  }
}

// Calls visitor.template operator()<F, P>() for a block format and its panels.
template <class Visitor>
inline decltype(auto) visit_panel(Format format, bool is_sparse, Visitor&& visitor) {
  if (is_sparse)
    return visit_sparse(
        format, [&]<class F>() { return visitor.template operator()<F, SparsePanel<F>>(); });
  return visit(format, [&]<class F>() { return visitor.template operator()<F, Panel<F>>(); });
}

// Has a matrix, given as PackedMatrix takes it, sparse panels, and are its weights sparse?
bool is_two_of_four(Format format, int64_t rows, int64_t cols, const uint8_t* raw, Pool& pool);

}  // namespace plait::quant
