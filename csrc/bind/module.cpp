// The extension module: checks, GIL release, call; nothing else happens in this folder.
#include <nanobind/nanobind.h>

#include "bind.h"

NB_MODULE(_C, m) {
  m.doc() = "Native kernels of Plait.";
  plait::bind::init_runtime(m);
  plait::bind::init_linear(m);
  plait::bind::init_plan(m);
  plait::bind::init_sample(m);
  plait::bind::init_header(m);
  plait::bind::init_measure(m);
}
