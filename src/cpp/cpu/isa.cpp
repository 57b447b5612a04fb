// SPDX-License-Identifier: MIT
#include "cpu/isa.h"

#include <cstdlib>
#include <string>

#include "cpu/features.h"
#include "error.h"

namespace fusedssim::cpu {

// To add an instruction set:
//   1. CMakeLists.txt: fusedssim_add_cpu_kernels(<name> <flags of the compiler>).
//   2. features.h: a bit for what it requires, and how to find out whether the processor has it.
//   3. filters.h: the length of its vectors, and the features that its kernels require.
//   4. Here: a line in the list.
//   5. The names in fusedssim.h (cpu_isa), docs/compatibility.md and tests/python/test_instruction_sets.py.
extern const Kernels kernels_baseline;
#if defined(FUSEDSSIM_HAVE_X86_ISAS)
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx512;
#endif

namespace {

// From the plainest to the best.
const Kernels* const kInstructionSets[] = {
    &kernels_baseline,
#if defined(FUSEDSSIM_HAVE_X86_ISAS)
    &kernels_avx2,
    &kernels_avx512,
#endif
};
static_assert(sizeof kInstructionSets / sizeof *kInstructionSets == FUSEDSSIM_CPU_ISA_COUNT,
              "CMakeLists.txt compiles kernels for another number of instruction sets");

// "baseline, avx2 or avx512"
std::string all_names() {
    constexpr int kCount = FUSEDSSIM_CPU_ISA_COUNT;
    std::string names;
    for (int i = 0; i < kCount; ++i)
        names += (i == 0 ? "" : i + 1 < kCount ? ", " : " or ") + std::string(kInstructionSets[i]->name);
    return names;
}

const Kernels& choose() {
    const char* const wanted = std::getenv("FUSEDSSIM_CPU_ISA");
    const unsigned usable = usable_features();
    const Kernels *best = nullptr, *named = nullptr;
    for (const Kernels* isa : kInstructionSets) {
        if ((isa->required & ~usable) != 0) continue;
        best = isa;
        if (wanted && isa->name == std::string(wanted)) named = isa;
    }
    if (!wanted || !*wanted) return *best;
    if (!named)
        fail(FUSEDSSIM_INVALID_ARGUMENT,
             "the environment variable FUSEDSSIM_CPU_ISA = %s, expected %s, as far as this processor and this build "
             "have "
             "them (best: %s)",
             wanted, all_names().c_str(), best->name);
    return *named;
}

}  // namespace

const Kernels& kernels() {
    static const Kernels& chosen = choose();
    return chosen;
}

}  // namespace fusedssim::cpu
