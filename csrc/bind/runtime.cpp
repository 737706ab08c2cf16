#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bind.h"
#include "plait/buffer.h"
#include "plait/cpu.h"
#include "plait/threads.h"

namespace nb = nanobind;

namespace plait::bind {

void init_runtime(nb::module_& m) {
  m.def("runnable_isas", [] {
    std::vector<std::string> names;
    for (Isa isa : runnable_isas()) names.emplace_back(isa_name(isa));
    return names;
  });
  m.def("default_num_threads", &default_num_threads);
  m.def("trim_heap", &trim_heap);
  nb::class_<Pool>(m, "Pool")
      .def(nb::init<int>(), nb::arg("num_threads"))
      .def_prop_ro("size", &Pool::size);
}

}  // namespace plait::bind
