// Choosing experts, and the op that runs them, on every kernel table; meant for the sanitizers.
// Prints what failed and returns non-zero.
#include <cmath>
#include <cstdio>
#include <limits>
#include <random>
#include <set>
#include <stdexcept>

#include "plait/plan.h"

namespace {

using namespace plait;

constexpr int kWidth = 64, kInner = 96, kExperts = 12, kTopK = 4, kVocab = 40, kOut = 24;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
int failures = 0;

void expect(bool condition, const char* what) {
  if (condition) return;
  std::printf("FAILED: %s\n", what);
  ++failures;
}

Routing routing(Score score, int groups, int top_groups, std::vector<float> bias = {}) {
  return {kTopK, score, std::move(bias), groups, top_groups, true, 2.5f};
}

void test_the_best_are_chosen() {
  const Routing plain{2, Score::softmax, {}, 1, 1, true, 1.0f};
  const float logits[] = {0, 3, 1, 3, -5, 2};
  int32_t experts[2];
  float weights[2];
  choose_experts(plain, logits, 6, experts, weights);
  expect(experts[0] == 1 && experts[1] == 3, "of equal scores the lower number comes first");
  expect(weights[0] == 0.5f && weights[1] == 0.5f, "normalised weights add up to one");
  Routing grouped{2, Score::sigmoid, {}, 3, 1, false, 1.0f};
  choose_experts(grouped, logits, 6, experts, weights);  // groups (0 3) (1 3) (-5 2)
  expect(experts[0] == 3 && experts[1] == 2, "only the best group takes part");
  grouped.bias = {9, 0, 0, 0, 0, 0};
  choose_experts(grouped, logits, 6, experts, weights);
  expect(experts[0] == 0 && weights[0] == 0.5f, "a bias steers the choice and weighs nothing");
}

void test_whatever_the_scores_no_expert_is_chosen_twice() {
  const float odd[] = {kNan, kInfinity, -kInfinity, 0.0f, 3e38f, -3e38f, 1.0f};
  std::mt19937 generator(1);
  for (int round = 0; round < 3000; ++round) {
    float logits[kExperts];
    std::vector<float> bias(kExperts);
    const bool all_odd = round % 3 == 0;
    for (int e = 0; e < kExperts; ++e) {
      logits[e] = all_odd ? odd[round / 3 % 7] : odd[generator() % 7];
      bias[e] = odd[generator() % 7];
    }
    const Routing rule = routing(round % 2 ? Score::sigmoid : Score::softmax, round % 4 ? 3 : 1, 1,
                                 round % 5 ? bias : std::vector<float>{});
    int32_t experts[kTopK];
    float weights[kTopK];
    choose_experts(rule, logits, kExperts, experts, weights);
    const std::set<int32_t> distinct(experts, experts + kTopK);
    expect(distinct.size() == kTopK && *distinct.begin() >= 0 && *distinct.rbegin() < kExperts,
           "distinct experts that exist");
  }
}

// Random bytes with small scales: one f16 and 32 integers per block.
std::shared_ptr<const PackedMatrix> q8_0(int rows, int cols, unsigned seed, Pool& pool) {
  std::mt19937 generator(seed);
  std::vector<uint8_t> raw(raw_bytes(Format::q8_0, rows, cols));
  for (size_t i = 0; i < raw.size(); ++i) {
    const size_t at = i % 34;
    raw[i] = at == 0 ? 0 : at == 1 ? 0x14 : static_cast<uint8_t>(generator());  // 2^-10
  }
  return std::make_shared<PackedMatrix>(Format::q8_0, rows, cols, raw.data(), pool);
}

std::shared_ptr<const PackedMatrix> f32(int rows, int cols, unsigned seed, Pool& pool) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, 0.15f);
  std::vector<float> values(static_cast<size_t>(rows) * cols);
  for (float& value : values) value = normal(generator);
  return std::make_shared<PackedMatrix>(Format::f32, rows, cols,
                                        reinterpret_cast<const uint8_t*>(values.data()), pool);
}

MoeSpec spec_of(Pool& pool, const Routing& rule) {
  MoeSpec spec;
  spec.x = {0, 0, kWidth, false};
  spec.scores = {1, 0, kExperts, false};
  spec.output = {2, 0, kWidth, false};
  spec.routing = rule;
  for (unsigned e = 0; e < kExperts; ++e) {  // a format of its own for every third
    spec.gate.push_back(e % 3 ? q8_0(kInner, kWidth, 3 * e, pool)
                              : f32(kInner, kWidth, 3 * e, pool));
    spec.up.push_back(q8_0(kInner, kWidth, 3 * e + 1, pool));
    spec.down.push_back(e % 4 ? q8_0(kWidth, kInner, 3 * e + 2, pool)
                              : f32(kWidth, kInner, 3 * e + 2, pool));
  }
  return spec;
}

// Buffers: 0 x, 1 scores, 2 what the experts made, 3 wanted rows, 4 the result.
std::unique_ptr<Plan> make_plan(Isa isa, int threads, const Routing& rule) {
  auto pool = std::make_shared<Pool>(threads);
  const KvShape kv{1, 1, 8, KvType::f16, 4};
  auto plan = std::make_unique<Plan>(std::vector<int>{kWidth, kExperts, kWidth, kWidth, kOut}, 4,
                                     kv, true, isa, pool);
  const View x{0, 0, kWidth, false}, made{2, 0, kWidth, false}, last{3, 0, kWidth, true};
  plan->embed(f32(kVocab, kWidth, 90, *pool), x, 4.0f);
  LinearSpec router;
  router.inputs = {x};
  router.weights = {f32(kExperts, kWidth, 91, *pool)};
  router.biases = {{}};
  router.output = {1, 0, kExperts, false};
  plan->linear(router);
  plan->moe(spec_of(*pool, rule));
  plan->refine(2, {1});
  plan->add(x, made, x, 1.0f);
  plan->wanted(x, last);
  LinearSpec head;
  head.inputs = {last};
  head.weights = {f32(kOut, kWidth, 92, *pool)};
  head.biases = {{}};
  head.output = {4, 0, kOut, true};
  plan->linear(head);
  return plan;
}

// Logits of each token; kv and pages are there only because a batch has them.
std::vector<float> run(Plan& plan, const std::vector<int32_t>& tokens) {
  const auto count = static_cast<int32_t>(tokens.size());
  std::vector<int32_t> rows(tokens.size()), pages{0, 1, 2, 3};
  for (int32_t i = 0; i < count; ++i) rows[i] = i;
  std::vector<Window> windows{{0, count, 0, static_cast<int32_t>(Pattern::full), 0, 0, -1}};
  std::vector<uint8_t> memory(4 * 2 * page_part_bytes(KvType::f16, 8));
  std::vector<float> out(tokens.size() * kOut);
  Batch batch;
  batch.num_rows = count;
  batch.tokens = tokens.data();
  batch.positions = rows.data();
  batch.num_windows = 1;
  batch.windows = windows.data();
  batch.pages = pages.data();
  batch.num_wanted = count;
  batch.wanted = rows.data();
  batch.kv = memory.data();
  batch.out = out.data();
  plan.check(batch, 4, 0);
  plan.run(batch, 0, plan.num_ops(), View{}, nullptr);
  return out;
}

void test_a_row_depends_on_itself_alone() {
  std::vector<int32_t> tokens;
  for (int i = 0; i < 100; ++i) tokens.push_back(i * 7 % kVocab);
  for (const Routing& rule : {routing(Score::softmax, 1, 1), routing(Score::sigmoid, 3, 2)}) {
    std::vector<float> first;
    for (Isa isa : runnable_isas()) {
      for (int threads : {1, 2, 5}) {
        auto plan = make_plan(isa, threads, rule);
        const auto together = run(*plan, tokens);
        if (first.empty()) first = together;
        expect(together == first, "tables and threads give the same bits");
        for (size_t i = 0; i < tokens.size(); i += 9) {
          const auto alone = run(*plan, {tokens[i]});
          expect(std::equal(alone.begin(), alone.end(), together.begin() + i * kOut),
                 "a row alone equals the row in a batch");
        }
      }
    }
    for (float value : first) expect(std::isfinite(value), "finite results");
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

void test_what_does_not_fit_is_refused() {
  const Routing rule = routing(Score::softmax, 1, 1);
  const auto refused = [&](void (*spoil)(MoeSpec&)) {
    auto plan = make_plan(Isa::generic, 1, rule);
    MoeSpec spec = spec_of(plan->pool(), rule);
    spoil(spec);
    return refuses([&] { plan->moe(std::move(spec)); });
  };
  expect(!refused([](MoeSpec&) {}), "what fits is taken");
  expect(refused([](MoeSpec& s) { s.gate.pop_back(); }), "a missing expert is refused");
  expect(refused([](MoeSpec& s) { s.gate.clear(); }), "no expert at all is refused");
  expect(refused([](MoeSpec& s) { s.up[3] = s.down[3]; }), "another shape is refused");
  expect(refused([](MoeSpec& s) { s.down[3] = nullptr; }), "no matrix is refused");
  expect(refused([](MoeSpec& s) { s.output = s.x; }), "writing over the input is refused");
  expect(refused([](MoeSpec& s) { s.scores.width = 13; }), "scores outside are refused");
  expect(refused([](MoeSpec& s) { s.routing.top_k = 13; }), "too many choices are refused");
  expect(refused([](MoeSpec& s) { s.routing.top_k = 0; }), "no choice is refused");
  expect(refused([](MoeSpec& s) { s.routing.groups = 5; }), "unequal groups are refused");
  expect(refused([](MoeSpec& s) { s.routing.groups = 0; }), "no groups are refused");
  expect(refused([](MoeSpec& s) { s.routing.bias = {1}; }), "a short bias is refused");
}

}  // namespace

int main() {
  test_the_best_are_chosen();
  test_whatever_the_scores_no_expert_is_chosen_twice();
  test_a_row_depends_on_itself_alone();
  test_what_does_not_fit_is_refused();
  if (failures == 0) std::printf("moe: all passed\n");
  return failures != 0;
}
