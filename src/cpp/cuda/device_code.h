// SPDX-License-Identifier: MIT
//
// The device code that is embedded in this library: an image for each unit (a file src/cuda/<unit>.cu) and
// architecture.
#pragma once

#include "cuda/driver.h"

namespace fusedssim::cuda {

// A kernel of the table in kernel_list.h, ready to be launched on a device. Fails if `kernel` is -1, or if the library
// has no code for the device. The first call for an image loads it, also while a stream is being captured.
CUfunction find_kernel(const Driver& driver, int device_id, int kernel);

// For `info`: "sm_75 sm_80 compute_80" and "NVRTC 12.9".
const char* architectures();
const char* compiler();

// Whether there is an image for a device of that compute capability (90 for 9.0).
bool has_image(int compute_capability);

int compute_capability(const Driver& driver, int device_id);

}  // namespace fusedssim::cuda
