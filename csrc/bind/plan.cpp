#include "plait/plan.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <chrono>
#include <optional>
#include <stdexcept>
#include <tuple>

#include "bind.h"
#include "number_array.h"

namespace nb = nanobind;

namespace plait::bind {
namespace {

using Ints = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Columns = std::tuple<int, int, int, bool>;

constexpr size_t kWindowFields = sizeof(Window) / sizeof(int32_t);

void demand(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

View view_of(const Columns& columns) {
  const auto [buffer, offset, width, wanted] = columns;
  return {buffer, offset, width, wanted};
}

Activation activation_by_name(const std::string& name) {
  if (name == "silu") return Activation::silu;
  if (name == "gelu") return Activation::gelu;
  if (name == "gelu_tanh") return Activation::gelu_tanh;
  throw std::invalid_argument("no activation called '" + name + "'");
}

Score score_by_name(const std::string& name) {
  if (name == "softmax") return Score::softmax;
  if (name == "sigmoid") return Score::sigmoid;
  throw std::invalid_argument("no score called '" + name + "'");
}

Prologue prologue_by_name(const std::string& name) {
  if (name == "none") return Prologue::none;
  if (name == "rmsnorm") return Prologue::rmsnorm;
  if (name == "gated") return Prologue::gated;
  throw std::invalid_argument("no prologue called '" + name + "'");
}

KvType kv_type_by_name(const std::string& name) {
  if (name == "f32") return KvType::f32;
  if (name == "f16") return KvType::f16;
  if (name == "int8") return KvType::int8;
  throw std::invalid_argument("no K/V type called '" + name + "'");
}

std::shared_ptr<Plan> make_plan(std::vector<int> widths, int result,
                                std::tuple<int, int, int, int64_t> kv, const std::string& kv_type,
                                bool int8, const std::string& isa, std::shared_ptr<Pool> pool) {
  const auto [layers, heads, head_dim, pages] = kv;
  const KvShape shape{layers, heads, head_dim, kv_type_by_name(kv_type), pages};
  return std::make_shared<Plan>(std::move(widths), result, shape, int8, isa_by_name(isa),
                                std::move(pool));
}

void add_linear(Plan& plan, const std::vector<Columns>& inputs,
                std::vector<std::shared_ptr<PackedMatrix>> weights,
                std::vector<std::vector<float>> biases, const Columns& output, bool accumulate,
                const std::string& prologue, std::vector<float> norm, float eps,
                const std::string& activation) {
  LinearSpec spec;
  spec.prologue = prologue_by_name(prologue);
  for (const Columns& input : inputs) spec.inputs.push_back(view_of(input));
  spec.norm_weight = std::move(norm);
  spec.eps = eps;
  spec.activation = activation_by_name(activation);
  for (auto& weight : weights) {
    demand(weight != nullptr, "linear: a missing weight");
    spec.weights.push_back(std::move(weight));
  }
  spec.biases = std::move(biases);
  spec.output = view_of(output);
  spec.accumulate = accumulate;
  plan.linear(std::move(spec));
}

using Matrices = std::vector<std::shared_ptr<PackedMatrix>>;

void add_moe(Plan& plan, const Columns& x, const Columns& scores, const Columns& output,
             const Matrices& gate, const Matrices& up, const Matrices& down,
             const std::string& activation, const std::string& score, int top_k,
             std::vector<float> bias, int groups, int top_groups, bool normalize, float scale) {
  MoeSpec spec;
  spec.x = view_of(x);
  spec.scores = view_of(scores);
  spec.output = view_of(output);
  spec.gate.assign(gate.begin(), gate.end());
  spec.up.assign(up.begin(), up.end());
  spec.down.assign(down.begin(), down.end());
  spec.activation = activation_by_name(activation);
  spec.routing = {top_k, score_by_name(score), std::move(bias), groups, top_groups, normalize,
                  scale};
  plan.moe(std::move(spec));
}

void check_memory(const Plan& plan, const KvMemory& kv) {
  const KvShape& shape = plan.kv();
  const auto part = static_cast<size_t>(page_part_bytes(shape.type, shape.head_dim));
  demand(static_cast<int64_t>(kv.shape(0)) == shape.num_pages &&
             static_cast<int>(kv.shape(1)) == shape.num_layers &&
             static_cast<int>(kv.shape(2)) == shape.num_kv_heads && kv.shape(3) == 2 &&
             kv.shape(4) * kv.itemsize() == part,
         "the KV memory is not of the shape and type that the plan was made for");
}

// What each wanted row may choose; none when all may choose everything. allowed_of: the row of all
// masks together, or -1.
std::vector<const uint32_t*> spread(const std::vector<WordRows>& masks, const IntArray& allowed_of,
                                    const Plan& plan, size_t num_wanted) {
  if (masks.empty()) return {};
  demand(allowed_of.size() == num_wanted, "which mask each wanted row has");
  std::vector<const uint32_t*> all, found;
  for (const WordRows& each : masks) {
    demand(each.shape(1) * 32 >= static_cast<size_t>(plan.result_width()), "a mask is too short");
    for (size_t row = 0; row < each.shape(0); ++row)
      all.push_back(each.data() + row * each.shape(1));
  }
  for (size_t row = 0; row < num_wanted; ++row) {
    const int32_t mask = allowed_of.data()[row];
    demand(mask >= -1 && mask < static_cast<int64_t>(all.size()), "no such mask");
    found.push_back(mask < 0 ? nullptr : all[static_cast<size_t>(mask)]);
  }
  return found;
}

// The seconds that the model took.
double run(Plan& plan, const IntArray& tokens, const IntArray& positions, const IntArray& windows,
           const IntArray& pages, const nb::bytes& masks, const IntArray& wanted,
           const IntArray& best, const std::vector<WordRows>& allowed, const IntArray& allowed_of,
           const KvMemory& kv, const FloatResult& out, const std::optional<Floats>& embeddings,
           const std::optional<Ints>& embedding_rows, const std::optional<Floats>& hidden,
           int first, int last, const Columns& entry, const std::optional<Columns>& exit) {
  Batch batch;
  batch.num_rows = static_cast<int>(tokens.size());
  batch.tokens = tokens.data();
  batch.positions = positions.data();
  batch.num_windows = static_cast<int>(windows.size() / kWindowFields);
  batch.windows = reinterpret_cast<const Window*>(windows.data());
  batch.pages = pages.data();
  batch.masks = static_cast<const uint8_t*>(masks.data());
  batch.num_wanted = static_cast<int>(wanted.size());
  batch.wanted = wanted.data();
  demand(best.size() == wanted.size(), "one number of best logits per wanted row");
  batch.best = best.data();
  const std::vector<const uint32_t*> rows_allowed =
      spread(allowed, allowed_of, plan, wanted.size());
  batch.allowed = rows_allowed.empty() ? nullptr : rows_allowed.data();
  batch.out = out.data();
  batch.kv = kv.data();
  const View from = view_of(entry);
  const size_t rows = tokens.size();
  demand(positions.size() == rows, "one position per token");
  demand(windows.size() % kWindowFields == 0, "a window has seven numbers");
  demand(first >= 0 && first <= last && last <= plan.num_ops(), "no such range of ops");
  demand(exit.has_value() == (last < plan.num_ops()), "a run that ends early needs an exit");
  check_memory(plan, kv);
  if (embeddings) {
    demand(embedding_rows && embedding_rows->shape(0) == rows, "one embedding row per token");
    batch.embeddings = embeddings->data();
    batch.embedding_rows = embedding_rows->data();
    for (size_t t = 0; t < rows; ++t)
      demand(batch.embedding_rows[t] < static_cast<int64_t>(embeddings->shape(0)),
             "an embedding row outside the array");
    demand(static_cast<int>(embeddings->shape(1)) == plan.width(), "embeddings of another width");
  }
  if (first > 0) {
    demand(hidden && hidden->shape(0) == rows && static_cast<int>(hidden->shape(1)) == from.width,
           "hidden rows of another shape");
    batch.hidden = hidden->data();
  }
  const View to = exit ? view_of(*exit) : View{};
  const size_t out_rows = exit ? rows : wanted.size();
  const int out_width = exit ? to.width : plan.result_width();
  demand(out.shape(0) >= out_rows && static_cast<int>(out.shape(1)) == out_width,
         "the result array has another shape");
  plan.check(batch, static_cast<int64_t>(pages.size()), static_cast<int64_t>(masks.size()));
  nb::gil_scoped_release release;
  const auto began = std::chrono::steady_clock::now();
  plan.run(batch, first, last, from, exit ? &to : nullptr);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

}  // namespace

void init_plan(nb::module_& m) {
  nb::class_<Plan>(m, "Plan")
      .def_prop_ro("num_ops", &Plan::num_ops)
      .def("embed",
           [](Plan& plan, std::shared_ptr<PackedMatrix> weights, const Columns& output,
              float scale) {
             demand(weights != nullptr, "embed: a missing weight");
             plan.embed(std::move(weights), view_of(output), scale);
           })
      .def("linear", &add_linear)
      .def("rmsnorm",
           [](Plan& plan, const Columns& x, const Columns& output, std::vector<float> weight,
              float eps, int groups, const std::optional<Columns>& residual) {
             plan.rmsnorm(view_of(x), view_of(output), std::move(weight), eps, groups,
                          residual ? view_of(*residual) : View{-1, 0, 0, false});
           })
      .def("layernorm",
           [](Plan& plan, const Columns& x, const Columns& output, std::vector<float> weight,
              std::vector<float> bias, float eps) {
             plan.layernorm(view_of(x), view_of(output), std::move(weight), std::move(bias), eps);
           })
      .def("rope_table", &Plan::rope_table)
      .def("rope", [](Plan& plan, const Columns& x, int heads, int table,
                      bool interleaved) { plan.rope(view_of(x), heads, table, interleaved); })
      .def("attention",
           [](Plan& plan, const Columns& q, const Columns& k, const Columns& v,
              const Columns& output, int layer, int heads, float scale, int window) {
             plan.attention({view_of(q), view_of(k), view_of(v), view_of(output), layer, heads,
                             scale, window});
           })
      .def("gated",
           [](Plan& plan, const Columns& gate, const Columns& up, const Columns& output,
              const std::string& activation) {
             plan.gated(view_of(gate), view_of(up), view_of(output),
                        activation_by_name(activation));
           })
      .def("moe", &add_moe, nb::arg("x"), nb::arg("scores"), nb::arg("output"), nb::arg("gate"),
           nb::arg("up"), nb::arg("down"), nb::arg("activation"), nb::arg("score"),
           nb::arg("top_k"), nb::arg("bias"), nb::arg("groups"), nb::arg("top_groups"),
           nb::arg("normalize"), nb::arg("scale"))
      .def("add", [](Plan& plan, const Columns& x, const Columns& y, const Columns& output,
                     float alpha) { plan.add(view_of(x), view_of(y), view_of(output), alpha); })
      .def("wanted", [](Plan& plan, const Columns& x,
                        const Columns& output) { plan.wanted(view_of(x), view_of(output)); })
      .def("watch", &Plan::watch, nb::arg("on"))
      .def("energy", &Plan::energy, nb::arg("op"))
      .def("head_counts",
           [](const Plan& plan) {
             const HeadCounts counts = plan.head_counts();
             return std::make_tuple(counts.rows, counts.panels, counts.wide, counts.broken,
                                    counts.narrow);
           })
      .def("refine", &Plan::refine, nb::arg("op"), nb::arg("blocks"))
      .def("center_keys", &Plan::center_keys, nb::arg("op"), nb::arg("mean"), nb::arg("scale"))
      .def("maxima", &Plan::maxima, nb::arg("op"))
      .def("unify", &Plan::unify, nb::arg("op"), nb::arg("maxima"))
      .def("attention_counts",
           [](const Plan& plan) {
             const AttentionCounts counts = plan.attention_counts();
             return std::make_tuple(counts.unified, counts.redone);
           })
      .def("run", &run, nb::arg("tokens"), nb::arg("positions"), nb::arg("windows"),
           nb::arg("pages"), nb::arg("masks"), nb::arg("wanted"), nb::arg("best"),
           nb::arg("allowed"), nb::arg("allowed_of"), nb::arg("kv"), nb::arg("out"),
           nb::arg("embeddings").none(), nb::arg("embedding_rows").none(), nb::arg("hidden").none(),
           nb::arg("first"), nb::arg("last"), nb::arg("entry"), nb::arg("exit").none());
  m.def("make_plan", &make_plan, nb::arg("widths"), nb::arg("result"), nb::arg("kv"),
        nb::arg("kv_type"), nb::arg("int8"), nb::arg("isa"), nb::arg("pool"));
}

}  // namespace plait::bind
