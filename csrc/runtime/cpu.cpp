#include "plait/cpu.h"

#include <stdexcept>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace plait {
namespace {

#if defined(__x86_64__)
// cpuid leaf 7, subleaf 1, EAX bit 4; gcc 12 has no name for it in __builtin_cpu_supports.
bool has_avxvnni() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (!__get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx)) return false;
  return (eax >> 4) & 1;
}

// __builtin_cpu_supports also asks the operating system (xgetbv) whether it saves the registers.
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c") && __builtin_cpu_supports("bmi2");
}

bool has_avx512vnni() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}
#endif

std::vector<Isa> probe() {
  std::vector<Isa> found{Isa::generic};
#if defined(PLAIT_HAS_avx2)
  if (has_avx2()) found.push_back(Isa::avx2);
#endif
#if defined(PLAIT_HAS_avxvnni)
  if (has_avx2() && has_avxvnni()) found.push_back(Isa::avxvnni);
#endif
#if defined(PLAIT_HAS_avx512vnni)
  if (has_avx2() && has_avx512vnni()) found.push_back(Isa::avx512vnni);
#endif
#if defined(PLAIT_HAS_neon)
  found.push_back(Isa::neon);
#endif
#if defined(PLAIT_HAS_neondot)
  if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) found.push_back(Isa::neondot);
#endif
#if defined(PLAIT_HAS_neoni8mm)
  if ((getauxval(AT_HWCAP) & HWCAP_ASIMDDP) && (getauxval(AT_HWCAP2) & HWCAP2_I8MM))
    found.push_back(Isa::neoni8mm);
#endif
  return found;
}

}  // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::generic:
      return "generic";
    case Isa::avx2:
      return "avx2";
    case Isa::avxvnni:
      return "avxvnni";
    case Isa::avx512vnni:
      return "avx512vnni";
    case Isa::neon:
      return "neon";
    case Isa::neondot:
      return "neondot";
    case Isa::neoni8mm:
      return "neoni8mm";
  }
  return "unknown";
}

const std::vector<Isa>& runnable_isas() {
  static const std::vector<Isa> found = probe();
  return found;
}

Isa best_isa() {
  return runnable_isas().back();
}

Isa isa_by_name(const std::string& name) {
  if (name == "auto") return best_isa();
  std::string known;
  for (Isa isa : runnable_isas()) {
    if (name == isa_name(isa)) return isa;
    known += std::string(known.empty() ? "" : ", ") + isa_name(isa);
  }
  throw std::invalid_argument("no kernel table called '" + name + "' runs here; available: auto, " +
                              known);
}

}  // namespace plait
