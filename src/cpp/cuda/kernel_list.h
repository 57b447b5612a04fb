// SPDX-License-Identifier: MIT
//
// The kernels as the launchers know them: src/cuda/instances.h as a table, and which kernel a call takes. Assertions at
// the end hold that each call finds a kernel, and that each kernel of the list is found by a call.
#pragma once

#include "core/dtype.h"
#include "instances.h"
#include "params.h"

namespace fusedssim::cuda {

#define FUSEDSSIM_FAMILY(FAMILY, KERNELS) FAMILY,
enum class Family { FUSEDSSIM_FAMILIES(FUSEDSSIM_FAMILY) };
#undef FUSEDSSIM_FAMILY

// The element types of the list. `any`: those that any_serves(), told apart at run time.
enum class Element { f32, f64, f16, bf16, any };

struct Kernel {
    Family family;
    Element element;
    int radius, grads;  // 0 where the family has none
    const char* unit;
    const char* name;
};
#define FUSEDSSIM_KERNEL(NAME, FAMILY, UNIT, PARAMS, TYPE, RADIUS, GRADS) \
    {Family::FAMILY, Element::TYPE, RADIUS, GRADS, #UNIT, #NAME},
#define FUSEDSSIM_FAMILY(FAMILY, KERNELS) KERNELS(FUSEDSSIM_KERNEL)
constexpr Kernel kKernels[] = {FUSEDSSIM_FAMILIES(FUSEDSSIM_FAMILY)};
#undef FUSEDSSIM_FAMILY
#undef FUSEDSSIM_KERNEL
constexpr int kKernelCount = int(sizeof kKernels / sizeof *kKernels);

constexpr Element element_of(Dtype dtype) {
    switch (dtype) {
        case Dtype::float32: return Element::f32;
        case Dtype::float64: return Element::f64;
        case Dtype::float16: return Element::f16;
        case Dtype::bfloat16: return Element::bf16;
        case Dtype::uint8:
        case Dtype::uint16:
        case Dtype::int16:
        case Dtype::boolean: break;
    }
    unexpected_dtype(dtype);
}
constexpr bool any_serves(Element element) {
    switch (element) {
        case Element::f32:
        case Element::f16:
        case Element::bf16: return true;
        case Element::f64:
        case Element::any: return false;
    }
    return false;
}

// The index of a kernel in the table, or -1.
constexpr int kernel_index(Family family, Element element, int radius, int grads) {
    for (int i = 0; i < kKernelCount; ++i) {
        const Kernel& k = kKernels[i];
        if (k.family == family && k.element == element && k.radius == radius && k.grads == grads) return i;
    }
    return -1;
}

// The kernel that a call takes, or -1. `dtype`: of the images, or, for scale, of the gradient. `radius` is a bucket.
constexpr int choose_kernel(Family family, Dtype dtype, int radius = 0, int grads = 0) {
    switch (family) {
        case Family::ssim2d:
        case Family::ssim2d_normalized:
        case Family::ssim3d_forward:
        case Family::ssim3d_forward_normalized:
        case Family::ssim3d_backward: {
            const Element element = element_of(dtype);
            const int own = kernel_index(family, element, radius, grads);
            return own < 0 && any_serves(element) ? kernel_index(family, Element::any, radius, grads) : own;
        }
        case Family::scale:
        case Family::pool: return kernel_index(family, element_of(dtype), 0, 0);
        case Family::reduce_sums:
        case Family::sum_mask:
        case Family::combine: return kernel_index(family, element_of(arithmetic_dtype(dtype)), 0, 0);
        case Family::reduce_mask: return kernel_index(family, Element::f64, 0, 0);
    }
    return -1;
}

// The families of the kernels that filter: their calls differ by radius bucket and number of gradients as well.
constexpr Family forward_family(bool is_3d, bool is_normalized) {
    return is_3d ? (is_normalized ? Family::ssim3d_forward_normalized : Family::ssim3d_forward)
                 : (is_normalized ? Family::ssim2d_normalized : Family::ssim2d);
}

// ---- What the list must have ----------------------------------------------------------------------------------------

constexpr Dtype kImageDtypes[] = {Dtype::float32, Dtype::float64, Dtype::float16, Dtype::bfloat16};
constexpr Family kSmallFamilies[] = {Family::reduce_sums, Family::sum_mask, Family::reduce_mask,
                                     Family::scale,       Family::pool,     Family::combine};

struct Coverage {
    bool is_complete = true;            // each call finds a kernel
    bool is_called[kKernelCount] = {};  // by kernel: a call finds it
    constexpr void add(int kernel, bool is_required) {
        if (kernel >= 0)
            is_called[kernel] = true;
        else if (is_required)
            is_complete = false;
    }
    constexpr bool is_each_called() const {
        for (const bool called : is_called)
            if (!called) return false;
        return true;
    }
};
// Goes through all calls that there can be.
constexpr Coverage coverage_of_calls() {
    Coverage coverage;
    for (const Dtype dtype : kImageDtypes) {
        for (const int radius : kRadiusBuckets)
            for (int grads = 0; grads <= 2; ++grads) {
                // A window that a mask normalises may run in a wider kernel than it needs: that one must exist.
                const bool is_widest = radius == kMaxRadius;
                for (int is_3d = 0; is_3d <= 1; ++is_3d) {
                    coverage.add(choose_kernel(forward_family(is_3d, false), dtype, radius, grads), true);
                    coverage.add(choose_kernel(forward_family(is_3d, true), dtype, radius, grads), is_widest);
                }
                if (grads) coverage.add(choose_kernel(Family::ssim3d_backward, dtype, radius, grads), true);
            }
        for (const Family family : kSmallFamilies) coverage.add(choose_kernel(family, dtype), true);
    }
    return coverage;
}
static_assert(coverage_of_calls().is_complete, "instances.h lacks a kernel that a call needs");
static_assert(coverage_of_calls().is_each_called(), "instances.h has a kernel that no call takes");

}  // namespace fusedssim::cuda
