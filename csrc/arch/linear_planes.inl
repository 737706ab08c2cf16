// Matrices in two planes: the whole product, and the screen.
#include "linear_entry.h"
#include "linear_int8.h"
#include "linear_screen.h"

namespace plait::PLAIT_ISA {
namespace {

// As Packed, joining the bits of a weight on the way.
template <class F>
struct PackedPlanes : Packed<F> {
  using Planes = quant::Planes<F>;
  static constexpr int kUnitBytes = Planes::kHighBytes;
  static constexpr int kBlockBytes = Planes::kHighBlockBytes;
  static constexpr int kLowUnitBytes = Planes::kLowBytes;
  static constexpr int kLowBlockBytes = Planes::kLowBlockBytes;

  template <int kPair>
  static PLAIT_INLINE void pair(Cursor block, Bytes& first, Bytes& second) {
    first = chunk<2 * kPair>(block);
    second = chunk<2 * kPair + 1>(block);
  }

  static PLAIT_INLINE Cursor block(Cursor unit, int index) {
    unit.at += Packed<F>::P::kHeaderBytes + index * kBlockBytes;
    unit.low_at += index * kLowBlockBytes;
    return unit;
  }

 private:
  template <int kChunk>
  static PLAIT_INLINE Bytes chunk(Cursor block) {
    const Bytes code =
        either(field<Planes::High::kBits, kChunk, 4>(block), field<4, kChunk, 0>(block.low()));
    // Signed weights lie there as unsigned ones.
    if constexpr (Weights<F>::kIsSigned && !Weights<F>::kFlips) return flip(code, splat_byte(128));
    return code;
  }
};

}  // namespace

void linear_planes(const LinearCall& call, const QuantizedRows& x) {
  quant::visit_planes(call.weights.format(),
                      [&]<class F>() { Int8Linear<PackedPlanes<F>>(call, x).run(); });
}

void screen_planes(const LinearCall& call, const QuantizedRows& x, BestRows* best) {
  quant::visit_planes(call.weights.format(), [&]<class F>() { Screen<F>(call, x, best).run(); });
}

}  // namespace plait::PLAIT_ISA
