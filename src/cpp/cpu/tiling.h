// SPDX-License-Identifier: MIT
#pragma once

#include "cpu/kernels.h"

namespace fusedssim::cpu {

// Cuts the planes of a problem into tasks for so many threads.
Tiling make_tiling(const Problem& p, const Kernels& k, int threads);

}  // namespace fusedssim::cpu
