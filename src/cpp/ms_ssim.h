// SPDX-License-Identifier: MIT
#pragma once

#include "problem.h"

namespace fusedssim {

// Memory that run() takes, from exec.workspace on CUDA.
std::size_t ms_workspace_bytes(const MsProblem& m, fusedssim_device device);

void run(const MsProblem& m, const fusedssim_exec& exec);

}  // namespace fusedssim
