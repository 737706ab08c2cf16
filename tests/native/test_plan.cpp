// A tiny decoder run by the plan on every kernel table, with ragged batches, page borders, tree
// masks and chunked contexts; meant for the sanitizers. Prints what failed and returns non-zero.
#include <cstdio>
#include <cstring>
#include <random>
#include <stdexcept>

#include "plait/plan.h"

namespace {

using namespace plait;

constexpr int kWidth = 32, kHeads = 4, kKvHeads = 2, kHeadDim = 8, kVocab = 24, kPages = 48;
constexpr int kInner = 64;
int failures = 0;

void expect(bool condition, const char* what) {
  if (condition) return;
  std::printf("FAILED: %s\n", what);
  ++failures;
}

std::vector<float> random_floats(size_t count, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, 0.3f);
  std::vector<float> out(count);
  for (float& x : out) x = normal(generator);
  return out;
}

std::shared_ptr<const PackedMatrix> matrix(int rows, int cols, unsigned seed, Pool& pool) {
  const auto values = random_floats(static_cast<size_t>(rows) * cols, seed);
  return std::make_shared<PackedMatrix>(Format::f32, rows, cols,
                                        reinterpret_cast<const uint8_t*>(values.data()), pool);
}

// Buffers: 0 x, 1 qkv, 2 attended, 3 gate and up, 4 last rows, 5 logits.
std::unique_ptr<Plan> make_plan(Isa isa, int threads, KvType type) {
  auto pool = std::make_shared<Pool>(threads);
  const int qkv = (kHeads + 2 * kKvHeads) * kHeadDim;
  const KvShape kv{1, kKvHeads, kHeadDim, type, kPages};
  auto plan = std::make_unique<Plan>(
      std::vector<int>{kWidth, qkv, kHeads * kHeadDim, 2 * kInner, kWidth, kVocab}, 5, kv, true,
      isa, pool);
  const View x{0, 0, kWidth, false}, all{1, 0, qkv, false};
  const View q{1, 0, kHeads * kHeadDim, false};
  const View k{1, kHeads * kHeadDim, kKvHeads * kHeadDim, false};
  const View v{1, (kHeads + kKvHeads) * kHeadDim, kKvHeads * kHeadDim, false};
  const View attended{2, 0, kHeads * kHeadDim, false};
  const View gate{3, 0, kInner, false}, up{3, kInner, kInner, false};
  const View last{4, 0, kWidth, true};
  const std::vector<float> ones(kWidth, 1.0f);
  plan->embed(matrix(kVocab, kWidth, 1, *pool), x, 2.0f);
  LinearSpec into;
  into.prologue = Prologue::rmsnorm;
  into.inputs = {x};
  into.norm_weight = ones;
  into.eps = 1e-5f;
  into.weights = {matrix(qkv, kWidth, 2, *pool)};
  into.biases = {random_floats(qkv, 3)};
  into.output = all;
  plan->linear(into);
  const int table = plan->rope_table({1.0f, 0.1f, 0.01f, 0.001f});
  plan->rope(q, kHeads, table, true);
  plan->rope(k, kKvHeads, table, true);
  plan->attention({q, k, v, attended, 0, kHeads, 0.35f, 0});
  LinearSpec out;
  out.inputs = {attended};
  out.weights = {matrix(kWidth, kHeads * kHeadDim, 4, *pool)};
  out.biases = {{}};
  out.output = x;
  out.accumulate = true;
  plan->linear(out);
  LinearSpec wide = into;
  wide.weights = {matrix(kInner, kWidth, 5, *pool), matrix(kInner, kWidth, 6, *pool)};
  wide.biases = {{}, {}};
  wide.output = {3, 0, 2 * kInner, false};
  plan->linear(wide);
  LinearSpec down;
  down.prologue = Prologue::gated;
  down.inputs = {gate, up};
  down.weights = {matrix(kWidth, kInner, 7, *pool)};
  down.biases = {{}};
  down.output = x;
  down.accumulate = true;
  plan->linear(down);
  plan->wanted(x, last);
  LinearSpec head;
  head.prologue = Prologue::rmsnorm;
  head.inputs = {last};
  head.norm_weight = ones;
  head.weights = {matrix(kVocab, kWidth, 8, *pool)};
  head.biases = {{}};
  head.output = {5, 0, kVocab, true};
  plan->linear(head);
  return plan;
}

struct Memory {
  explicit Memory(KvType type)
      : bytes(static_cast<size_t>(kPages) * kKvHeads * 2 * page_part_bytes(type, kHeadDim)) {}
  std::vector<uint8_t> bytes;
};

struct Part {
  int start, count, first_page_number;
  Pattern pattern;
  int size;
};

// Runs windows over a text of token ids that depend on the slot only; returns all logits.
std::vector<float> run(Plan& plan, Memory& memory, const std::vector<Part>& parts) {
  std::vector<int32_t> tokens, positions, pages, wanted;
  std::vector<uint8_t> masks;
  std::vector<Window> windows;
  for (const Part& part : parts) {
    const bool tree = part.pattern == Pattern::tree;
    windows.push_back({static_cast<int32_t>(tokens.size()), part.count, part.start,
                       static_cast<int32_t>(part.pattern), part.size,
                       static_cast<int32_t>(pages.size()),
                       tree ? static_cast<int32_t>(masks.size()) : -1});
    for (int i = 0; i < part.count; ++i) {
      tokens.push_back((part.start + i) * 7 % kVocab);
      positions.push_back(part.start + i);
      wanted.push_back(static_cast<int32_t>(wanted.size()));
      if (tree)
        for (int j = 0; j < part.count; ++j) masks.push_back(j <= i && (i - j) % 2 == 0);
    }
    for (int p = 0; p * kPage < reach_of(windows.back()); ++p)
      pages.push_back(part.first_page_number + p);
  }
  std::vector<float> out(wanted.size() * kVocab);
  Batch batch;
  batch.num_rows = static_cast<int>(tokens.size());
  batch.tokens = tokens.data();
  batch.positions = positions.data();
  batch.num_windows = static_cast<int>(windows.size());
  batch.windows = windows.data();
  batch.pages = pages.data();
  batch.masks = masks.data();
  batch.num_wanted = static_cast<int>(wanted.size());
  batch.wanted = wanted.data();
  batch.kv = memory.bytes.data();
  batch.out = out.data();
  plan.check(batch, static_cast<int64_t>(pages.size()), static_cast<int64_t>(masks.size()));
  plan.run(batch, 0, plan.num_ops(), View{}, nullptr);
  return out;
}

void test_tables_threads_and_chunks(KvType type) {
  std::vector<float> first;
  for (Isa isa : runnable_isas()) {
    for (int threads : {1, 2, 3}) {
      auto plan = make_plan(isa, threads, type);
      Memory memory(type);
      const int length = 700;  // two chunks of pages
      const auto whole = run(*plan, memory, {{0, length, 0, Pattern::causal, 0}});
      if (first.empty()) first = whole;
      expect(whole == first, "tables and threads give the same bits");
      Memory again(type);
      std::vector<float> pieces;
      for (int s = 0; s < length; s += 99) {
        const auto rows =
            run(*plan, again, {{s, std::min(99, length - s), 24, Pattern::causal, 0}});
        pieces.insert(pieces.end(), rows.begin(), rows.end());
      }
      expect(pieces == whole, "chunks give the same bits as the whole");
      const auto single = run(*plan, again, {{length - 1, 1, 24, Pattern::causal, 0}});
      expect(std::memcmp(single.data(), whole.data() + (length - 1) * kVocab,
                         kVocab * sizeof(float)) == 0,
             "one row spread over chunks gives the same bits");
    }
  }
}

void test_patterns_in_one_batch(KvType type) {
  for (Isa isa : runnable_isas()) {
    auto plan = make_plan(isa, 2, type);
    Memory memory(type);
    const std::vector<Part> context{{0, 31, 0, Pattern::causal, 0}, {0, 64, 4, Pattern::causal, 0}};
    const std::vector<Part> parts{{31, 2, 0, Pattern::tree, 0},     {64, 8, 4, Pattern::block, 8},
                                  {0, 5, 8, Pattern::full, 0},      {9, 5, 4, Pattern::full, 64},
                                  {0, 33, 10, Pattern::prefix, 32}, {0, 1, 12, Pattern::causal, 0}};
    run(*plan, memory, context);
    const auto together = run(*plan, memory, parts);
    size_t at = 0;
    for (const Part& part : parts) {
      const auto alone = run(*plan, memory, {part});
      expect(std::memcmp(alone.data(), together.data() + at, alone.size() * sizeof(float)) == 0,
             "a window alone equals the window in a batch");
      at += alone.size();
    }
  }
}

template <class F>
bool refuses(F f) {
  try {
    f();
  } catch (const std::invalid_argument&) {
    return true;
  }
  return false;
}

void test_bad_batches_are_refused() {
  auto plan = make_plan(Isa::generic, 1, KvType::f32);
  Memory memory(KvType::f32);
  expect(refuses([&] { run(*plan, memory, {{0, 4, kPages, Pattern::causal, 0}}); }),
         "a page outside the cache is refused");
  expect(refuses([&] { run(*plan, memory, {{0, 4, 0, Pattern::block, 0}}); }),
         "a block of size 0 is refused");
  expect(refuses([&] { run(*plan, memory, {{0, 4, kPages - 1, Pattern::full, 33}}); }),
         "a reach beyond the cache is refused");
  expect(refuses([&] { run(*plan, memory, {{0, 4, 0, static_cast<Pattern>(9), 0}}); }),
         "an unknown pattern is refused");
  expect(refuses([&] { plan->rope({0, 8, kWidth, false}, 1, 0, true); }),
         "a view outside its buffer is refused");
}

// Its last slot would have a number that does not exist.
void test_a_window_without_an_end_is_refused() {
  auto plan = make_plan(Isa::generic, 1, KvType::f32);
  const Window window{0, 4, INT32_MAX - 2, static_cast<int32_t>(Pattern::causal), 0, 0, -1};
  Batch batch;
  batch.num_rows = window.num_rows;
  batch.num_windows = 1;
  batch.windows = &window;
  expect(refuses([&] { plan->check(batch, 0, 0); }), "a window without an end is refused");
}

}  // namespace

int main() {
  test_tables_threads_and_chunks(KvType::f16);
  test_tables_threads_and_chunks(KvType::f32);
  test_tables_threads_and_chunks(KvType::int8);
  test_patterns_in_one_batch(KvType::f16);
  test_patterns_in_one_batch(KvType::int8);
  test_bad_batches_are_refused();
  test_a_window_without_an_end_is_refused();
  if (failures == 0) std::printf("plan: all passed\n");
  return failures != 0;
}
