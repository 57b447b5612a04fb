// SPDX-License-Identifier: MIT
//
// What the host, the CPU kernels and the CUDA kernels all know of an array. Includes nothing: NVRTC compiles it too.
#pragma once

namespace fusedssim {

// The values of fusedssim_dtype. A switch over it has no `default`: so the compiler names each that lacks a new dtype.
enum class Dtype : int {
    float32 = 0,
    float64 = 1,
    float16 = 2,
    bfloat16 = 3,
    boolean = 4,
    uint8 = 5,
    uint16 = 6,
    int16 = 7
};

// Memory with a stride, in elements, for each axis of [N, C, D, H, W]; images have d = 0. data is NULL where nothing
// shall be read or written.
struct View {
    void* data;
    long long n, c, d, h, w;
};

// What multiplies the derivative of a map element.
enum Upstream : int {
    kUpstreamOne = 0,    // nothing
    kUpstreamPlane = 1,  // one value for each plane (of a reduction: the same for all, for an image, or for a plane)
    kUpstreamMap = 2     // one value for each map element
};

}  // namespace fusedssim
