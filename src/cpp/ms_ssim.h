// SPDX-License-Identifier: MIT
#pragma once

#include "problem.h"

namespace fusedssim {

// Bytes of exec.workspace that run() takes.
std::size_t ms_workspace_bytes(const MsProblem& m, const fusedssim_exec& exec);

void run(const MsProblem& m, const fusedssim_exec& exec);

}  // namespace fusedssim
