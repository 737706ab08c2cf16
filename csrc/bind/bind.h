#pragma once

#include <nanobind/nanobind.h>

namespace plait::bind {

void init_runtime(nanobind::module_& m);
void init_plan(nanobind::module_& m);
void init_linear(nanobind::module_& m);
void init_sample(nanobind::module_& m);
void init_header(nanobind::module_& m);
void init_measure(nanobind::module_& m);

}  // namespace plait::bind
