#include "plait/sample.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "bind.h"
#include "number_array.h"
#include "plait/threads.h"

namespace nb = nanobind;

namespace plait::bind {
namespace {

template <typename T>
using Array = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

template <typename T>
std::span<T> span_of(const Array<T>& array) {
  return {array.data(), array.size()};
}

std::span<const float> row_of(const FloatRows& logits, size_t row) {
  return {logits.data() + row * logits.shape(1), logits.shape(1)};
}

void require(bool condition, const char* message) {
  if (!condition) throw nb::value_error(message);
}

int32_t code(RowState state, int32_t token) {
  return state == RowState::kFine ? token : state == RowState::kNotANumber ? -1 : -2;
}

SampleScratch& scratch() {
  static thread_local SampleScratch memory;
  return memory;
}

// What a request asks of all its rows.
struct Sampler {
  std::vector<int32_t> bias_ids, forbidden, held;
  std::vector<double> bias;
  SampleSettings settings;
};

// Rows of one request, and where their results go. Keeps its arrays alive.
struct SampleRows {
  std::shared_ptr<const Sampler> sampler;
  FloatRows logits;
  IntArray positions;
  IntResult tokens;
  std::optional<Array<double>> confidence;
  std::optional<Array<const int32_t>> history;
  size_t num_prompt, num_held;
  std::optional<WordRows> masks;
  nb::object positions_array, tokens_array, confidence_array;  // as they were given

  size_t size() const { return logits.shape(0); }

  RowState sample(size_t row) const {
    SampleSettings settings = sampler->settings;
    if (history) settings.history = span_of(*history);
    settings.num_prompt = num_prompt;
    if (masks) settings.mask = {masks->data() + row * masks->shape(1), masks->shape(1)};
    Choice choice;
    const auto position = static_cast<uint64_t>(positions.data()[row]);
    const RowState state = sample_row(row_of(logits, row), settings, row < num_held, position,
                                      confidence.has_value(), scratch(), choice);
    tokens.data()[row] = code(state, choice.token);
    if (confidence) confidence->data()[row] = choice.confidence;
    return state;
  }
};

// One row at a time to whichever worker is free. False when a row has no choice.
bool sample_all(const std::vector<const SampleRows*>& requests, Pool* pool) {
  std::vector<std::pair<const SampleRows*, size_t>> rows;
  for (const SampleRows* request : requests) {
    require(request != nullptr, "no rows");
    for (size_t row = 0; row < request->size(); ++row) rows.emplace_back(request, row);
  }
  nb::gil_scoped_release release;
  std::atomic<size_t> next{0};
  std::atomic<bool> is_fine{true};
  const auto work = [&](int) {
    for (size_t i = next++; i < rows.size(); i = next++)
      if (rows[i].first->sample(rows[i].second) != RowState::kFine) is_fine = false;
  };
  if (pool != nullptr && rows.size() > 1)
    pool->run(work);
  else
    work(0);
  return is_fine;
}

void logprobs_rows(
    const FloatRows& logits, const Array<const int32_t>& tokens, const Array<double>& logprobs,
    const Array<int32_t>& ranks,
    const nb::ndarray<int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>& top,
    const nb::ndarray<double, nb::ndim<2>, nb::c_contig, nb::device::cpu>& top_logprobs) {
  const size_t rows = logits.shape(0), count = top.shape(1);
  require(tokens.size() == rows && logprobs.size() == rows && ranks.size() == rows &&
              top.shape(0) == rows && top_logprobs.shape(0) == rows &&
              top_logprobs.shape(1) == count && count <= logits.shape(1),
          "the outputs do not fit the logits");
  for (int32_t token : span_of(tokens))
    require(token >= 0 && static_cast<size_t>(token) < logits.shape(1),
            "token outside the vocabulary");
  nb::gil_scoped_release release;
  for (size_t row = 0; row < rows; ++row) {
    RowLogprobs result;
    const int32_t token = tokens.data()[row];
    const RowState state = logprobs_row(row_of(logits, row), token, count, scratch(), result);
    logprobs.data()[row] = result.token;
    ranks.data()[row] = code(state, result.rank);
    std::copy(result.top.begin(), result.top.end(), top.data() + row * count);
    std::copy(result.top_logprob.begin(), result.top_logprob.end(),
              top_logprobs.data() + row * count);
  }
}

std::shared_ptr<Sampler> new_sampler(uint64_t seed, double temperature, int64_t top_k, double top_p,
                                     double min_p, double typical_p, double repetition_penalty,
                                     double presence_penalty, double frequency_penalty,
                                     std::vector<int32_t> bias_ids, std::vector<double> bias,
                                     std::vector<int32_t> forbidden, std::vector<int32_t> held) {
  require(bias.size() == bias_ids.size(), "one bias per id");
  auto made = std::make_shared<Sampler>(
      Sampler{std::move(bias_ids), std::move(forbidden), std::move(held), std::move(bias), {}});
  made->settings = {temperature,
                    top_k,
                    top_p,
                    min_p,
                    typical_p,
                    repetition_penalty,
                    presence_penalty,
                    frequency_penalty,
                    {},
                    0,
                    made->bias_ids,
                    made->bias,
                    made->forbidden,
                    made->held,
                    seed,
                    {}};
  return made;
}

template <typename Numbers>
Numbers numbers_of(const nb::object& array, const char* message) {
  Numbers numbers;
  if (!numbers.load(array.ptr())) throw nb::type_error(message);
  return numbers;
}

void new_rows(SampleRows* self, std::shared_ptr<const Sampler> sampler, FloatRows logits,
              nb::object positions_array, nb::object tokens_array, nb::object confidence_array,
              std::optional<Array<const int32_t>> history, size_t num_prompt, size_t num_held,
              std::optional<WordRows> masks) {
  const size_t rows = logits.shape(0);
  auto positions = numbers_of<IntArray>(positions_array, "positions: int32 [rows]");
  auto tokens = numbers_of<IntResult>(tokens_array, "tokens: int32 [rows], writable");
  std::optional<Array<double>> confidence;
  if (!confidence_array.is_none()) confidence = nb::cast<Array<double>>(confidence_array, false);
  require(sampler != nullptr, "no sampler");
  require(positions.size() == rows && tokens.size() == rows, "one position and one token per row");
  require(!confidence || confidence->size() == rows, "one confidence per row, or none");
  require(!masks || (masks->shape(0) == rows && masks->shape(1) * 32 >= logits.shape(1)),
          "one mask per row with a bit for every id, or none");
  new (self) SampleRows{std::move(sampler),
                        std::move(logits),
                        std::move(positions),
                        std::move(tokens),
                        std::move(confidence),
                        std::move(history),
                        num_prompt,
                        num_held,
                        std::move(masks),
                        std::move(positions_array),
                        std::move(tokens_array),
                        std::move(confidence_array)};
}

}  // namespace

void init_sample(nb::module_& m) {
  m.def("uniform", &uniform, nb::arg("seed"), nb::arg("position"));
  m.def("exp_nonpositive", &exp_nonpositive, nb::arg("x"));
  nb::class_<Sampler>(m, "Sampler")
      .def(nb::new_(&new_sampler), nb::kw_only(), nb::arg("seed"), nb::arg("temperature"),
           nb::arg("top_k"), nb::arg("top_p"), nb::arg("min_p"), nb::arg("typical_p"),
           nb::arg("repetition_penalty"), nb::arg("presence_penalty"), nb::arg("frequency_penalty"),
           nb::arg("bias_ids"), nb::arg("bias"), nb::arg("forbidden"), nb::arg("held"));
  nb::class_<SampleRows>(m, "SampleRows")
      .def("__init__", &new_rows, nb::arg("sampler"), nb::arg("logits"), nb::arg("positions"),
           nb::arg("tokens"), nb::arg("confidence").none(), nb::arg("history").none(),
           nb::arg("num_prompt"), nb::arg("num_held"), nb::arg("masks").none(),
           nb::sig(
               "def __init__(self, sampler: Sampler, logits: numpy.typing.NDArray[numpy.float32], "
               "positions: numpy.typing.NDArray[numpy.int32], "
               "tokens: numpy.typing.NDArray[numpy.int32], "
               "confidence: numpy.typing.NDArray[numpy.float64] | None, "
               "history: numpy.typing.NDArray[numpy.int32] | None, num_prompt: int, "
               "num_held: int, masks: numpy.typing.NDArray[numpy.uint32] | None) -> None"))
      .def_prop_ro(
          "positions", [](const SampleRows& rows) { return rows.positions_array; },
          nb::sig("def positions(self) -> numpy.typing.NDArray[numpy.int32]"))
      .def_prop_ro(
          "tokens", [](const SampleRows& rows) { return rows.tokens_array; },
          nb::sig("def tokens(self) -> numpy.typing.NDArray[numpy.int32]"))
      .def_prop_ro(
          "confidence",
          [](const SampleRows& rows) {
            require(rows.confidence.has_value(), "confidence was not asked for");
            return rows.confidence_array;
          },
          nb::sig("def confidence(self) -> numpy.typing.NDArray[numpy.float64]"));
  m.def("sample", &sample_all, nb::arg("requests"), nb::arg("pool").none());
  m.def("logprobs", &logprobs_rows, nb::arg("logits"), nb::arg("tokens"),
        nb::arg("logprobs").noconvert(), nb::arg("ranks").noconvert(), nb::arg("top").noconvert(),
        nb::arg("top_logprobs").noconvert());
}

}  // namespace plait::bind
