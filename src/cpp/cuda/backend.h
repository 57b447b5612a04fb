// SPDX-License-Identifier: MIT
//
// The CUDA backend as the rest of the library sees it. In a build without CUDA, unavailable.cpp stands for it.
#pragma once

#include "devices.h"

namespace fusedssim::cuda {

extern const Backend backend;

// For fusedssim_get_cuda_device_info().
void fill_device_info(int device_id, fusedssim_cuda_device_info& info);

}  // namespace fusedssim::cuda
