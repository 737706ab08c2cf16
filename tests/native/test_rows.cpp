// Row kernels and attention, function by function: every table must give the bits of the generic
// one, whatever the length, and for numbers at the edge of what a float or a half can hold.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "plait/rows.h"

namespace {

using namespace plait;
using Floats = std::vector<float>;

constexpr int kMaxLength = 70;
constexpr int kHeadDim = 40;
constexpr int kPages = 3;
std::mt19937 random_bits(11);
int failures = 0;

Floats random_floats(int count, float size) {
  std::normal_distribution<float> normal(0.0f, size);
  Floats out(static_cast<size_t>(count));
  for (float& x : out) x = normal(random_bits);
  return out;
}

// Also zeros, subnormals, infinities, and what e^x over- or underflows at.
Floats edges(int count) {
  constexpr float kEdges[] = {0.0f,   -0.0f,  1e-40f, -1e-40f, 88.0f,    -87.33f,   -87.34f,
                              -87.5f, -88.2f, NAN,    1000.0f, 1e30f,    -INFINITY, INFINITY,
                              6e-8f,  3e-8f,  2.5f,   -3.5f,   65519.0f, -65520.0f, 1.0009766f};
  Floats out = random_floats(count, 3.0f);
  for (float& x : out)
    if (random_bits() % 3 == 0) x = kEdges[random_bits() % std::size(kEdges)];
  return out;
}

// Not-a-number equals itself: its sign and payload are the processor's choice.
bool same(const Floats& a, const Floats& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) && std::isnan(b[i])) continue;
    if (std::memcmp(&a[i], &b[i], sizeof(float)) != 0) return false;
  }
  return true;
}

// f(table) -> floats; all tables must agree with the generic one.
template <class F>
void compare(const char* what, int n, F f) {
  const Floats want = f(row_kernels(Isa::generic));
  for (Isa isa : runnable_isas()) {
    if (same(want, f(row_kernels(isa)))) continue;
    std::printf("FAILED: %s, %d elements, %s\n", what, n, isa_name(isa));
    ++failures;
  }
}

void test_norms(int n) {
  const Floats x = random_floats(n, 2.0f), weight = random_floats(n, 1.0f);
  const Floats bias = random_floats(n, 1.0f);
  for (const float* other : {static_cast<const float*>(nullptr), bias.data()}) {
    compare("rmsnorm", n, [&](const RowKernels& table) {
      Floats out(x.size());
      table.rmsnorm(x.data(), weight.data(), 1e-5f, n, other, out.data());
      return out;
    });
    compare("layernorm", n, [&](const RowKernels& table) {
      Floats out(x.size());
      table.layernorm(x.data(), weight.data(), other, 1e-5f, n, out.data());
      return out;
    });
  }
}

void test_elementwise(int n) {
  const Floats gate = edges(n), up = random_floats(n, 1.0f);
  for (Activation activation : {Activation::silu, Activation::gelu, Activation::gelu_tanh})
    compare("gated", n, [&](const RowKernels& table) {
      Floats out(gate.size());
      table.gated(activation, gate.data(), up.data(), n, out.data());
      return out;
    });
  compare("add", n, [&](const RowKernels& table) {
    Floats out(gate.size());
    table.add(gate.data(), up.data(), 0.3f, n, out.data());
    return out;
  });
}

void test_rope() {
  const Floats x = random_floats(3 * kHeadDim, 1.0f), angles = random_floats(kHeadDim, 1.0f);
  for (bool interleaved : {false, true})
    compare("rope", kHeadDim, [&](const RowKernels& table) {
      Floats out = x;
      table.rope(out.data(), 3, kHeadDim, kHeadDim / 2, interleaved, angles.data());
      return out;
    });
}

struct Pages {
  std::vector<Floats> k, v;  // the bytes of a page, four to a float
  std::vector<const void*> k_at, v_at;

  // Filled by the table itself, one slot after another.
  Pages(const RowKernels& table, KvType type, const Floats& keys, const Floats& values) {
    const size_t floats = static_cast<size_t>(page_part_bytes(type, kHeadDim)) / sizeof(float);
    for (int p = 0; p < kPages; ++p) {
      k.emplace_back(floats), v.emplace_back(floats);
      for (int slot = 0; slot < kPage; ++slot) {
        const int at = (p * kPage + slot) * kHeadDim;
        table.store_kv(&keys[at], &values[at], kHeadDim, slot, type, k[p].data(), v[p].data());
      }
      k_at.push_back(k[p].data()), v_at.push_back(v[p].data());
    }
  }
};

Floats attend(const RowKernels& table, const Pages& pages, KvType type, int rows,
              const Floats& queries, const float* maxima) {
  const int num_next = rows % (kPages + 1);
  constexpr int kState = state_floats(kHeadDim);
  Floats states(static_cast<size_t>(rows) * kState), scratch(2 * kPage * kHeadDim);
  std::vector<const float*> query_at;
  std::vector<float*> state_at;
  std::vector<int32_t> low, high, mask_starts(rows, 0);
  std::vector<const uint8_t*> masks(rows, nullptr);
  for (int r = 0; r < rows; ++r) {
    query_at.push_back(&queries[r * kHeadDim]);
    state_at.push_back(&states[r * kState]);
    state_at.back()[kHeadDim] = -INFINITY;
    low.push_back(r * 7 % kPage), high.push_back(kPages * kPage - r * 5 % (2 * kPage));
  }
  table.attention({pages.k_at.data(), pages.v_at.data(), kPages, pages.k_at.data(),
                   pages.v_at.data(), num_next, 0, type, kHeadDim, 0.2f, rows, query_at.data(),
                   low.data(), high.data(), masks.data(), mask_starts.data(), state_at.data(),
                   scratch.data(), maxima});
  for (int r = 1; r < rows; ++r) table.merge_states(state_at[0], state_at[r], kHeadDim);
  return states;
}

void test_attention(KvType type) {
  const Floats keys = random_floats(kPages * kPage * kHeadDim, 2.0f);
  const Floats values = random_floats(kPages * kPage * kHeadDim, 2.0f);
  const Floats queries = random_floats(kMostAttentionRows * kHeadDim, 2.0f);
  for (int rows : {1, 2, 3, 4, 5, 6, 9, 13, kMostAttentionRows})
    compare("attention", rows, [&](const RowKernels& table) {
      const Pages pages(table, type, keys, values);
      return attend(table, pages, type, rows, queries, nullptr);
    });
  const Floats maxima =
      random_floats(kMostAttentionRows, 4.0f);  // some far off, and then their sums are
  for (int rows : {1, 2, 3, 4, 5, 6, 9, 13, kMostAttentionRows})
    compare("unified attention", rows, [&](const RowKernels& table) {
      const Pages pages(table, type, keys, values);
      return attend(table, pages, type, rows, queries, maxima.data());
    });
}

void test_store_kv() {
  Floats keys = edges(kPages * kPage * kHeadDim), values = edges(kPages * kPage * kHeadDim);
  compare("store_kv", kHeadDim, [&](const RowKernels& table) {
    const Pages pages(table, KvType::f16, keys, values);
    Floats all;
    for (const auto& side : {pages.k, pages.v})
      for (const Floats& page : side) all.insert(all.end(), page.begin(), page.end());
    return all;
  });
}

}  // namespace

int main() {
  for (int n = 1; n <= kMaxLength; ++n) test_norms(n), test_elementwise(n);
  test_rope();
  test_store_kv();
  test_attention(KvType::f32);
  test_attention(KvType::f16);
  test_attention(KvType::int8);
  if (failures == 0) std::puts("rows: ok");
  return failures != 0;
}
