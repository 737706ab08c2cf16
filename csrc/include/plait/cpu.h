// Which instruction sets this processor runs, and the choice of one for the whole process.
#pragma once

#include <string>
#include <vector>

namespace plait {

enum class Isa { generic, avx2, avxvnni, avx512vnni, neon, neondot, neoni8mm };
constexpr int kNumIsas = static_cast<int>(Isa::neoni8mm) + 1;

const char* isa_name(Isa isa);

// Tables that were compiled in and that this processor runs, worst first; never empty.
const std::vector<Isa>& runnable_isas();

Isa best_isa();

// Throws std::invalid_argument naming the runnable ones when `name` is none of them ("auto" is the
// best).
Isa isa_by_name(const std::string& name);

}  // namespace plait
