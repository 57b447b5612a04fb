// SPDX-License-Identifier: MIT
//
// The kernels of a unit of src/cuda/, as those of the simulated device. Compiled once for each unit: CMakeLists.txt
// says which file UNIT_FILE is, and which list of families UNIT_FAMILIES.
#include "cuda_language.h"
// After the language that it is written in.
#include UNIT_FILE

namespace {

using namespace fusedssim;

#define FAMILY(FAMILY, KERNELS) KERNELS(SIMULATOR_KERNEL)
constexpr simulator::Kernel kKernels[] = {UNIT_FAMILIES(FAMILY)};
const simulator::Unit unit(kKernels);

}  // namespace
