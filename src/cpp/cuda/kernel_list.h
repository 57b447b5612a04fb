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

// The types of the list: see params.h.
enum class Element { f32, f64, f16, bf16, u8, any, any64 };

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

// The type of kernels for one dtype alone.
constexpr Element element_of(Dtype dtype) {
    switch (dtype) {
        case Dtype::float32: return Element::f32;
        case Dtype::float64: return Element::f64;
        case Dtype::float16: return Element::f16;
        case Dtype::bfloat16: return Element::bf16;
        case Dtype::uint8: return Element::u8;
        case Dtype::uint16:
        case Dtype::int16:
        case Dtype::boolean: break;
    }
    unexpected_dtype(dtype);
}
constexpr Element general_element(Dtype arithmetic) {
    return arithmetic == Dtype::float64 ? Element::any64 : Element::any;
}

// The index of a kernel in the table, or -1.
constexpr int kernel_index(Family family, Element element, int radius, int grads) {
    for (int i = 0; i < kKernelCount; ++i) {
        const Kernel& k = kKernels[i];
        if (k.family == family && k.element == element && k.radius == radius && k.grads == grads) return i;
    }
    return -1;
}

// The small kernel that a call takes, or -1. `dtype`: of the gradient (scale) or of the image (pool).
constexpr int small_kernel(Family family, Dtype arithmetic, Dtype dtype = Dtype::float32) {
    switch (family) {
        case Family::scale: return kernel_index(family, element_of(dtype), 0, 0);
        case Family::pool: {
            const bool is_usual = dtype == Dtype::float32 && arithmetic == Dtype::float32;
            return kernel_index(family, is_usual ? Element::f32 : general_element(arithmetic), 0, 0);
        }
        case Family::reduce_sums:
        case Family::sum_mask:
        case Family::combine: return kernel_index(family, element_of(arithmetic), 0, 0);
        case Family::reduce_mask: return kernel_index(family, Element::f64, 0, 0);
        case Family::ssim2d:
        case Family::ssim2d_sheets:
        case Family::ssim2d_masked:
        case Family::ssim2d_masked_loss:
        case Family::ssim2d_pooling:
        case Family::ssim2d_wide_forward:
        case Family::ssim2d_wide_backward:
        case Family::ssim2d_normalized:
        case Family::ssim2d_normalized_backward:
        case Family::ssim2d_general_forward:
        case Family::ssim2d_general_forward_normalized:
        case Family::ssim2d_general_backward:
        case Family::ssim3d_forward:
        case Family::ssim3d_forward_strided:
        case Family::ssim3d_forward_masked:
        case Family::ssim3d_forward_masked_loss:
        case Family::ssim3d_forward_normalized:
        case Family::ssim3d_backward:
        case Family::ssim3d_backward_weighted:
        case Family::ssim3d_wide_forward:
        case Family::ssim3d_wide_backward:
        case Family::ssim3d_general_forward:
        case Family::ssim3d_general_forward_normalized:
        case Family::ssim3d_general_backward: break;
    }
    return -1;
}

// Variants of the usual kernels: see instances.h.
enum class Variant { usual, sheets, masked, masked_loss, normalized, pooling, strided };

// The element type and the radius bucket of the kernels of a call, and which variant of them its first one is.
struct KernelType {
    Element element;
    int radius;
    Variant variant = Variant::usual;
    constexpr bool is_general() const { return element == Element::any || element == Element::any64; }
};
constexpr int filter_kernel(Family family, KernelType type, int grads) {
    return kernel_index(family, type.element, type.radius, grads);
}
// The families of the kernels that filter: their calls differ by radius bucket and number of gradients as well. The
// first makes the value, and, of images, the usual kernels also the gradient.
constexpr Family first_family(bool is_3d, bool is_normalized, KernelType type) {
    if (type.is_general()) {
        if (!is_3d) return is_normalized ? Family::ssim2d_general_forward_normalized : Family::ssim2d_general_forward;
        return is_normalized ? Family::ssim3d_general_forward_normalized : Family::ssim3d_general_forward;
    }
    switch (type.variant) {
        case Variant::sheets: return Family::ssim2d_sheets;
        case Variant::masked: return is_3d ? Family::ssim3d_forward_masked : Family::ssim2d_masked;
        case Variant::masked_loss: return is_3d ? Family::ssim3d_forward_masked_loss : Family::ssim2d_masked_loss;
        case Variant::normalized: return is_3d ? Family::ssim3d_forward_normalized : Family::ssim2d_normalized;
        case Variant::pooling: return Family::ssim2d_pooling;
        case Variant::strided: return Family::ssim3d_forward_strided;
        case Variant::usual: break;
    }
    if (type.radius > kUsualRadius) return is_3d ? Family::ssim3d_wide_forward : Family::ssim2d_wide_forward;
    return is_3d ? Family::ssim3d_forward : Family::ssim2d;
}
constexpr int first_kernel(bool is_3d, bool is_normalized, KernelType type, int grads) {
    return filter_kernel(first_family(is_3d, is_normalized, type), type, grads);
}
// Whether the gradient is a second kernel, and which one.
constexpr bool has_two_passes(bool is_3d, KernelType type, int grads) {
    return grads && (is_3d || type.is_general() || type.radius > kUsualRadius || type.variant == Variant::normalized);
}
constexpr Family second_family(bool is_3d, KernelType type) {
    if (type.is_general()) return is_3d ? Family::ssim3d_general_backward : Family::ssim2d_general_backward;
    if (type.radius > kUsualRadius) return is_3d ? Family::ssim3d_wide_backward : Family::ssim2d_wide_backward;
    const bool has_weights = type.variant == Variant::masked_loss || type.variant == Variant::normalized;
    if (is_3d) return has_weights ? Family::ssim3d_backward_weighted : Family::ssim3d_backward;
    return Family::ssim2d_normalized_backward;
}
constexpr int second_kernel(bool is_3d, KernelType type, int grads) {
    const Family family = second_family(is_3d, type);
    return filter_kernel(family, type, grads);
}
// Of buckets up to `most`, the smallest that holds a radius, among those that there are kernels of.
constexpr KernelType smallest_bucket(bool is_3d, bool is_normalized, KernelType most, int radius, int grads) {
    KernelType type = most;
    for (const int bucket : kRadiusBuckets)
        if (bucket >= radius && bucket < type.radius &&
            first_kernel(is_3d, is_normalized, {type.element, bucket}, grads) >= 0)
            type.radius = bucket;
    return type;
}
// The kernels of the usual calls, for two images of this dtype alone, if there are any.
constexpr KernelType usual_type(Dtype dtype, bool is_3d, int radius, int grads) {
    return smallest_bucket(is_3d, false, {element_of(dtype), kMaxRadius}, radius, grads);
}
constexpr bool has_usual_kernels(Dtype dtype, bool is_3d, int radius, int grads) {
    switch (dtype) {
        case Dtype::float32:
        case Dtype::float64:
        case Dtype::float16:
        case Dtype::bfloat16:
        case Dtype::uint8: return first_kernel(is_3d, false, usual_type(dtype, is_3d, radius, grads), grads) >= 0;
        case Dtype::uint16:
        case Dtype::int16:
        case Dtype::boolean: break;
    }
    return false;
}
// A variant of the usual kernels, which exist for one radius alone; and whether there is one.
constexpr KernelType variant_of(KernelType type, Variant variant) { return {type.element, kUsualRadius, variant}; }
constexpr bool has_variant(Variant variant, bool is_3d, KernelType type, int grads) {
    const bool is_of_images = variant == Variant::sheets || variant == Variant::pooling;
    return !type.is_general() && type.radius <= kUsualRadius && (is_3d ? !is_of_images : variant != Variant::strided) &&
           first_kernel(is_3d, false, variant_of(type, variant), grads) >= 0;
}
// Whether images may stand side by side in sheets. Kernels in two passes have one for all, and so have gradients under
// masks.
constexpr bool has_sheet_kernels(KernelType type, int grads) {
    if (type.is_general() || type.radius > kUsualRadius) return true;
    if (type.variant == Variant::masked || type.variant == Variant::masked_loss) return grads == 1;
    return type.variant == Variant::usual && type.radius == kUsualRadius &&
           has_variant(Variant::sheets, false, type, grads);
}
constexpr KernelType in_sheets(KernelType type) {
    if (!type.is_general() && type.radius == kUsualRadius && type.variant == Variant::usual)
        type.variant = Variant::sheets;
    return type;
}
// The general kernels for a radius. Those of volumes are for a number of gradients: partial maps that one kernel writes
// are read by another.
constexpr KernelType general_type(Dtype arithmetic, bool is_3d, bool is_normalized, int radius, int grads) {
    return smallest_bucket(is_3d, is_normalized, {general_element(arithmetic), kMaxRadius}, radius, is_3d ? grads : 0);
}

// The gradients that kernels of this type compute at once: some have no kernels for two.
constexpr int grads_at_once(bool is_3d, bool is_normalized, KernelType type, int grads) {
    return first_kernel(is_3d, is_normalized, type, grads) >= 0 ? grads : 1;
}

// ---- What the list must have ----------------------------------------------------------------------------------------

constexpr Dtype kImageDtypes[] = {Dtype::float32, Dtype::float64, Dtype::float16, Dtype::bfloat16,
                                  Dtype::uint8,   Dtype::uint16,  Dtype::int16};
constexpr Variant kVariants[] = {Variant::sheets,     Variant::masked,  Variant::masked_loss,
                                 Variant::normalized, Variant::pooling, Variant::strided};
constexpr Dtype kArithmetics[] = {Dtype::float32, Dtype::float64};
constexpr Dtype kGradDtypes[] = {Dtype::float32, Dtype::float64, Dtype::float16, Dtype::bfloat16};
constexpr Family kSmallFamilies[] = {Family::reduce_sums, Family::sum_mask, Family::reduce_mask,
                                     Family::scale,       Family::pool,     Family::combine};

struct Coverage {
    bool is_complete = true;            // each call finds a kernel
    bool is_called[kKernelCount] = {};  // by kernel: a call finds it
    constexpr void add(int kernel) {
        if (kernel >= 0)
            is_called[kernel] = true;
        else
            is_complete = false;
    }
    constexpr void add_filters(bool is_3d, bool is_normalized, KernelType type, int grads) {
        grads = grads_at_once(is_3d, is_normalized, type, grads);
        add(first_kernel(is_3d, is_normalized, type, grads));
        if (has_two_passes(is_3d, type, grads)) add(second_kernel(is_3d, type, grads));
    }
    constexpr void add_usual(Dtype dtype, bool is_3d, int radius, int grads) {
        const KernelType type = usual_type(dtype, is_3d, radius, grads);
        add_filters(is_3d, false, type, grads);
        for (const Variant variant : kVariants)
            if (has_variant(variant, is_3d, type, grads)) add_filters(is_3d, false, variant_of(type, variant), grads);
        // Behind a general forward.
        const int of_general = general_type(arithmetic_dtype(dtype), is_3d, false, radius, grads).radius;
        if (is_3d && grads) add(second_kernel(is_3d, {type.element, of_general}, grads));
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
    for (int is_3d = 0; is_3d <= 1; ++is_3d)
        for (int grads = 0; grads <= 2; ++grads) {
            for (const Dtype dtype : kImageDtypes)
                for (const int radius : kRadiusBuckets)
                    if (has_usual_kernels(dtype, is_3d, radius, grads)) coverage.add_usual(dtype, is_3d, radius, grads);
            for (const Dtype arithmetic : kArithmetics)
                for (int is_normalized = 0; is_normalized <= 1; ++is_normalized)
                    for (const int radius : kRadiusBuckets)
                        coverage.add_filters(is_3d, is_normalized,
                                             general_type(arithmetic, is_3d, is_normalized, radius, grads), grads);
        }
    for (const Dtype arithmetic : kArithmetics)
        for (const Family family : kSmallFamilies)
            for (const Dtype dtype : kGradDtypes) coverage.add(small_kernel(family, arithmetic, dtype));
    return coverage;
}
static_assert(coverage_of_calls().is_complete, "instances.h lacks a kernel that a call needs");
static_assert(coverage_of_calls().is_each_called(), "instances.h has a kernel that no call takes");

}  // namespace fusedssim::cuda
