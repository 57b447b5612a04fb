// SPDX-License-Identifier: MIT
//
// The device code that is embedded in this library: an image for each unit (a file of src/cuda/) and architecture.
#pragma once

#include "cuda/driver.h"

namespace fusedssim::cuda {

// The kernels, by the list in src/cuda/instances.h.
enum class Family {
    ssim2d,
    ssim2d_normalized,
    ssim3d_forward,
    ssim3d_forward_normalized,
    ssim3d_backward,
    reduce_sums,
    sum_mask,
    reduce_mask,
    scale,
    pool,
    combine
};
enum class Element { f32, f64, f16, bf16, any };

// radius and grads are 0 where a family has none. Fails if there is no such kernel, or no code for the device; loads the
// image at the first call, also while a stream is being captured.
CUfunction find_kernel(const Driver& driver, int device_id, Family family, Element element, int radius = 0,
                       int grads = 0);

// "sm_75 sm_80 compute_80" and "NVRTC 12.9".
const char* architectures();
const char* compiler();

// Whether there is an image for a device of that compute capability (90 for 9.0).
bool has_image(int compute_capability);

int compute_capability(const Driver& driver, int device_id);

}  // namespace fusedssim::cuda
