// SPDX-License-Identifier: MIT
#pragma once

#include "devices.h"

namespace fusedssim::cpu {

// A call runs on at most exec.cpu_threads threads, the calling one included; 0 stands for one for each core.
extern const Backend backend;

}  // namespace fusedssim::cpu
