// SPDX-License-Identifier: MIT
//
// MS-SSIM: checks what is its own, and runs the problems of SSIM that it consists of.
#pragma once

#include "problem.h"

namespace fusedssim {

static_assert(FUSEDSSIM_MAX_LEVELS == kMaxLevels, "core/pooling.h has room for the weights of all levels");

// MS-SSIM: its first level, and what tells the others from it.
struct MsProblem {
    Problem first;  // value: where MS-SSIM goes; groups: those of the reduction
    int levels;
    double weights[kMaxLevels];
};
fusedssim_ms_params read_ms_params(const fusedssim_ms_params* ms);
MsProblem make_ms(const fusedssim_params& params, const fusedssim_ms_params& ms, const fusedssim_exec& exec,
                  const Arguments& a);
MsProblem make_ms_sizes(const fusedssim_params& params, const fusedssim_ms_params& ms, fusedssim_grads grads,
                        const fusedssim_tensor* x, const fusedssim_tensor* y);

// Bytes of exec.workspace that run() takes.
std::size_t ms_workspace_bytes(const MsProblem& m, const fusedssim_exec& exec);

void run(const MsProblem& m, const fusedssim_exec& exec);

}  // namespace fusedssim
