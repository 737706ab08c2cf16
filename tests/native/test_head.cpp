// The head in two planes: with only the best logits asked for, those that are given are the whole
// product's to the bit, and none of the best is missing; also where the bounds cannot hold.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <random>

#include "plait/plan.h"

namespace {

using namespace plait;

constexpr int kVocab = 1003, kTokens = 24;
int failures = 0;

void expect(bool condition, const char* what, Isa isa, int count) {
  if (condition) return;
  std::printf("FAILED: %s (%s, %d best)\n", what, isa_name(isa), count);
  ++failures;
}

// A vocabulary matrix.
struct Matrix {
  Format format;
  int width;
  std::vector<uint8_t> raw;
};

using Weight = std::function<int(int row, int column)>;

// The high byte of an f16 near 2^-8.
uint8_t exponent(int row, int block) {
  return static_cast<uint8_t>(28 + (row + block) % 3);
}

Matrix q8_0(const Weight& weight) {
  Matrix made{Format::q8_0, 96, {}};
  for (int row = 0; row < kVocab; ++row)
    for (int column = 0; column < made.width; ++column) {
      if (column % 32 == 0) made.raw.insert(made.raw.end(), {0, exponent(row, column / 32)});
      made.raw.push_back(static_cast<uint8_t>(weight(row, column)));
    }
  return made;
}

// Weights from -32 to 31; scales mostly positive, also zero and negative.
Matrix q6_k(const Weight& weight) {
  Matrix made{Format::q6_k, 512, {}};
  for (int row = 0; row < kVocab; ++row)
    for (int first = 0; first < made.width; first += 256) {
      uint8_t block[210] = {};
      for (int i = 0; i < 256; ++i) {
        const int code = weight(row, first + i) + 32, quarter = i / 32;
        const int low = quarter / 4 * 64 + quarter % 2 * 32 + i % 32, high = i / 128 * 32 + i % 32;
        block[low] |= static_cast<uint8_t>((code & 15) << quarter % 4 / 2 * 4);
        block[128 + high] |= static_cast<uint8_t>((code >> 4) << quarter % 4 * 2);
      }
      for (int i = 0; i < 16; ++i)
        block[192 + i] = static_cast<uint8_t>((row * 5 + first + i * 7) % 23 - 2);
      block[209] = exponent(row, first / 256);
      made.raw.insert(made.raw.end(), block, block + 210);
    }
  return made;
}

// Normal numbers within [-largest, largest].
Weight random_weights(float largest) {
  auto random = std::make_shared<std::mt19937>(5);
  auto normal = std::make_shared<std::normal_distribution<float>>(0.0f, largest / 3);
  return [=](int, int) {
    return static_cast<int>(std::clamp(std::round((*normal)(*random)), -largest, largest));
  };
}

// Embeds a token (one row of `inputs`) and multiplies it with the vocabulary matrix.
std::unique_ptr<Plan> make_plan(const Matrix& weights, float shift, Isa isa, int threads) {
  const int width = weights.width;
  auto pool = std::make_shared<Pool>(threads);
  auto plan = std::make_unique<Plan>(std::vector<int>{width, width, kVocab}, 2,
                                     KvShape{1, 1, 8, KvType::f32, 1}, true, isa, pool);
  std::mt19937 random(6);
  std::normal_distribution<float> normal(shift, 1);
  std::vector<float> inputs(kTokens * width);
  for (float& x : inputs) x = normal(random);
  std::fill_n(inputs.begin(), width, 0.0f);
  inputs[width + 40] = 3000;  // a channel that drowns the others
  const View x{0, 0, width, false}, last{1, 0, width, true};
  plan->embed(
      std::make_shared<PackedMatrix>(Format::f32, kTokens, width,
                                     reinterpret_cast<const uint8_t*>(inputs.data()), *pool),
      x, 1.0f);
  plan->wanted(x, last);
  LinearSpec head;
  head.inputs = {last};
  head.weights = {std::make_shared<PackedMatrix>(weights.format, kVocab, width, weights.raw.data(),
                                                 *pool, Packing::planes)};
  head.biases = {{}};
  head.output = {2, 0, kVocab, true};
  plan->linear(head);
  plan->refine(2, {1});
  return plan;
}

using Mask = std::vector<uint32_t>;  // a bit per row of the matrix; empty: all

// Logits of tokens [first, first + count); best: how many of each row, or null; masks: what each
// may choose, or null.
std::vector<float> run(Plan& plan, int first, int count, const std::vector<int32_t>* best,
                       const std::vector<Mask>* masks = nullptr) {
  std::vector<int32_t> tokens, positions, wanted;
  for (int i = 0; i < count; ++i) tokens.push_back(first + i), positions.push_back(i);
  wanted = positions;
  const int32_t page = 0;
  const Window window{0, count, 0, static_cast<int32_t>(Pattern::causal), 0, 0, -1};
  std::vector<float> out(static_cast<size_t>(count) * kVocab), kv(2 * 8 * kPage);
  Batch batch;
  batch.num_rows = batch.num_wanted = count;
  batch.tokens = tokens.data();
  batch.positions = positions.data();
  batch.num_windows = 1;
  batch.windows = &window;
  batch.pages = &page;
  batch.wanted = wanted.data();
  batch.best = best == nullptr ? nullptr : best->data();
  std::vector<const uint32_t*> allowed;
  for (int i = 0; masks != nullptr && i < count; ++i)
    allowed.push_back((*masks)[i].empty() ? nullptr : (*masks)[i].data());
  batch.allowed = masks == nullptr ? nullptr : allowed.data();
  batch.kv = kv.data();
  batch.out = out.data();
  plan.check(batch, 1, 0);
  plan.run(batch, 0, plan.num_ops(), View{}, nullptr);
  return out;
}

bool has(const Mask& mask, int id) {
  return mask.empty() || (mask[id / 32] >> id % 32 & 1) != 0;
}

void check_row(const float* got, const float* whole, Isa isa, int count, const Mask& mask = {}) {
  std::vector<float> sorted;
  for (int i = 0; i < kVocab; ++i)
    if (has(mask, i)) sorted.push_back(whole[i]);
  std::sort(sorted.begin(), sorted.end(), std::greater{});
  const size_t place = static_cast<size_t>(count) - 1;
  const float last = place < sorted.size() ? sorted[place] : -INFINITY;
  for (int i = 0; i < kVocab; ++i) {
    const bool is_given = std::memcmp(got + i, whole + i, sizeof(float)) == 0;
    expect(is_given || (std::isinf(got[i]) && got[i] < 0), "a logit is another", isa, count);
    expect(is_given || !has(mask, i) || whole[i] < last, "one of the best is missing", isa, count);
  }
}

// Returns what was counted.
HeadCounts check(const Matrix& weights, float shift, Isa isa, int threads) {
  HeadCounts total;
  for (int count : {1, 2, 50, kVocab - 1, kVocab}) {
    auto plan = make_plan(weights, shift, isa, threads);
    const auto whole = run(*plan, 0, kTokens, nullptr);
    for (int rows : {1, 3, 8}) {
      for (int first = 0; first + rows <= kTokens; first += rows) {
        std::vector<int32_t> best(static_cast<size_t>(rows), count);
        best[0] = std::min(7, count);
        const auto got = run(*plan, first, rows, &best);
        for (int i = 0; i < rows; ++i)
          check_row(got.data() + i * kVocab, whole.data() + (first + i) * kVocab, isa, best[i]);
      }
    }
    const HeadCounts counts = plan->head_counts();
    total.rows += counts.rows, total.panels += counts.panels;
    total.wide += counts.wide, total.broken += counts.broken;
  }
  return total;
}

// Nothing, a few, half, almost all, all; a row of each kind beside the others, and alone.
std::vector<Mask> random_masks(int count) {
  std::mt19937 random(7);
  std::vector<Mask> masks;
  for (int i = 0; i < count; ++i) {
    const uint32_t share[] = {0, 4, 500, 990, 1000};
    Mask mask(i % 6 == 5 ? 0 : (kVocab + 31) / 32);
    for (int id = 0; id < kVocab && !mask.empty(); ++id)
      if (random() % 1000 < share[i % 6]) mask[id / 32] |= 1u << id % 32;
    masks.push_back(mask);
  }
  return masks;
}

// Returns what was counted.
HeadCounts check_masks(const Matrix& weights, float shift, Isa isa, int threads) {
  auto plan = make_plan(weights, shift, isa, threads);
  const auto whole = run(*plan, 0, kTokens, nullptr);
  const auto all = random_masks(kTokens);
  for (int count : {1, 2, 50})
    for (int rows : {1, 3, 8})
      for (int first = 0; first + rows <= kTokens; first += rows) {
        const std::vector<int32_t> best(static_cast<size_t>(rows), count);
        const std::vector<Mask> masks(all.begin() + first, all.begin() + first + rows);
        const auto got = run(*plan, first, rows, &best, &masks);
        for (int i = 0; i < rows; ++i)
          check_row(got.data() + i * kVocab, whole.data() + (first + i) * kVocab, isa, count,
                    masks[i]);
      }
  return plan->head_counts();
}

void check_mixed(const Matrix& weights, Isa isa) {
  auto plan = make_plan(weights, 0, isa, 2);
  const std::vector<int32_t> best{1, 0, 1};
  expect(run(*plan, 3, 3, &best) == run(*plan, 3, 3, nullptr),
         "a row that needs all its logits in the batch", isa, 0);
}

void check_format(const Matrix& random, const Matrix& equal, const Matrix& slanted) {
  for (Isa isa : runnable_isas()) {
    for (int threads : {1, 3}) {
      const HeadCounts counts = check(random, 0, isa, threads);
      expect(counts.rows > 0 && counts.broken == 0, "random weights break no bound", isa, 0);
      check(equal, 0, isa, threads);
      const HeadCounts broken = check(slanted, 2, isa, threads);
      expect(isa == Isa::generic || broken.broken > 0, "a broken bound is noticed", isa, 0);
      const HeadCounts masked = check_masks(random, 0, isa, threads);
      expect(masked.narrow > 0 && masked.rows > 0 && masked.broken == 0, "both kinds", isa, 0);
      check_masks(equal, 0, isa, threads);
      check_masks(slanted, 2, isa, threads);
    }
    check_mixed(random, isa);
  }
}

}  // namespace

int main() {
  // The last of each: every low half is 15, far from 7.5 on average, which no bound expects.
  check_format(q8_0(random_weights(127)),
               q8_0([](int, int column) { return column % 7 * 15 - 40; }),
               q8_0([](int row, int column) { return (row * 31 + column) % 15 * 16 - 113; }));
  check_format(q6_k(random_weights(31)), q6_k([](int, int column) { return column % 7 * 8 - 20; }),
               q6_k([](int row, int column) { return (row * 31 + column) % 4 * 16 - 17; }));
  if (failures == 0) std::puts("head: all passed");
  return failures != 0;
}
