// SPDX-License-Identifier: MIT
#pragma once

#include "fusedssim/fusedssim.h"

namespace fuzz {

enum class Function {
    forward,
    value_and_grad,
    backward,
    ms_forward,
    ms_value_and_grad,
    scale,
    workspace_size,
    ms_workspace_size,
    saved_size,
    infos,
    count
};

// What the last input came to, for statistics and to choose seeds.
struct Outcome {
    int function;
    fusedssim_status status;
    int spoiled;  // fields
    bool is_3d;
    int dtype;
};
extern Outcome last_outcome;

}  // namespace fuzz
