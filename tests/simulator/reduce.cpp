// SPDX-License-Identifier: MIT
#include "cuda_language.h"
// After the language that it is written in.
#include "reduce.cu"

namespace {

using namespace fusedssim;

#define FAMILY(FAMILY, KERNELS) KERNELS(SIMULATOR_KERNEL)
constexpr simulator::Kernel kKernels[] = {FUSEDSSIM_REDUCE_FAMILIES(FAMILY)};

}  // namespace

simulator::Kernels simulator::reduce_kernels() { return kKernels; }
