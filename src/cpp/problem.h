// SPDX-License-Identifier: MIT
//
// One description of the work, which every backend reads: made of the arguments of a C call, all of which are checked
// here, and nowhere behind. tensors.h has the rules for one tensor, settings.h those for params and exec.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "core/border.h"
#include "core/dtype.h"
#include "core/pooling.h"
#include "core/ssim_math.h"
#include "core/view.h"
#include "core/window.h"
#include "fusedssim/fusedssim.h"

namespace fusedssim {

struct Problem {
    bool is_3d;
    Dtype arithmetic;  // float32 or float64
    // Of the images, which are the same, unless one or both are integers. An element of an image of integers stands for
    // its number times the image's scale; that of others is 1.
    Dtype x_dtype, y_dtype;
    double x_scale, y_scale;
    // Images have depth 1. Each spatial axis fits an int.
    std::int64_t images, channels;
    int depth, height, width;

    Window windows[kAxes];  // see radius(), crop() and taps()
    Border border;          // what windows see beyond the image
    Upstream upstream;      // what grad_out holds
    // The constants C1 and C2 come from these, by stability_of(). An infinite constant makes its factor of SSIM 1.
    double k1, k2;
    double data_range;  // of all images, unless there are

    View x, y;
    View data_ranges;  // of each image, of the type of the arithmetic; data NULL: none
    View map;          // out, if the reduction is NONE
    View value;        // out, if it is another
    View grad_out;     // as `upstream` says
    // If only grad_y is wanted and nothing is saved, x and y are exchanged, since SSIM is symmetric: grad_x is then the
    // caller's grad_y.
    View grad_x, grad_y;
    View mask;  // data NULL: none; strides are 0 where it is broadcast

    // A group of planes has one value, which `reduction` makes of its sums. The derivative of a map element is
    // multiplied by ssim_factor(), that of |x - y| at an element by l1_factor(). For a mean with a mask both are still
    // to be divided by the sum of the group's mask: over the map, and over all elements.
    std::int64_t groups, planes_per_group;
    Reduction reduction;
    double grad_scale;
    double variance_grad_scale;  // of derivatives by variances and covariance: 1, unless a gradient is to lack a factor
    bool has_wide_grads;         // gradients are of the type of the arithmetic, whatever the images are

    // Gradients of the next coarser level of MS-SSIM, contiguous and of the type of the arithmetic; NULL: none. An
    // element of this level gets its block's gradient over the elements of a block (core/pooling.h).
    View coarse_x, coarse_y;
    // The images of the next coarser level, contiguous and of the type of the arithmetic: averages over the elements of
    // blocks (out); NULL: not wanted.
    View pooled_x, pooled_y;

    // What a forward saves for a backward, and for how many gradients: 1 (grad_x), 2 (both, or either); 0: nothing is
    // saved.
    void* saved;
    int saved_grads;

    bool mask_is_bool;   // bytes; otherwise of the type of the arithmetic
    bool is_normalized;  // windows see nothing that the mask excludes

    // Along one axis: elements, the window's radius and taps (from the centre outwards), and what padding VALID takes
    // off each end. An image has no window along z: radius 0.
    FUSEDSSIM_MATH int size(Axis axis) const {
        switch (axis) {
            case Axis::z: return depth;
            case Axis::y: return height;
            case Axis::x: return width;
        }
        return 0;
    }
    FUSEDSSIM_MATH int radius(Axis axis) const { return windows[int(axis)].radius; }
    FUSEDSSIM_MATH int crop(Axis axis) const { return windows[int(axis)].crop; }
    FUSEDSSIM_MATH const double* taps(Axis axis) const { return windows[int(axis)].taps; }
    FUSEDSSIM_MATH int max_radius() const {
        int most = 0;
        for (const Window& window : windows) most = window.radius > most ? window.radius : most;
        return most;
    }
    // The sum of an axis' taps in this arithmetic, and what the product of all axes lacks to be 1: nothing, for a
    // Gaussian that was computed from sigma.
    template <class A>
    FUSEDSSIM_MATH double window_sum(Axis axis) const {
        double sum = double(A(taps(axis)[0]));
        for (int k = 1; k <= radius(axis); ++k) sum += 2 * double(A(taps(axis)[k]));
        return sum;
    }
    template <class A>
    FUSEDSSIM_MATH double window_rest() const {
        return 1 - window_sum<A>(Axis::z) * window_sum<A>(Axis::y) * window_sum<A>(Axis::x);
    }
    // About which part of a window lies inside an image that is smaller than it. If the rest sees zeros, the mean of
    // what it sees, which a pivot is to be near, is smaller by that factor.
    FUSEDSSIM_MATH double seen_share() const {
        double share = 1;
        for (int axis = 0; axis < kAxes && !is_normalized && border == Border::zeros; ++axis) {
            const int length = size(Axis(axis)), window = 2 * windows[axis].radius + 1;
            if (length < window) share *= double(length) / window;
        }
        return share;
    }
    // The positions that the map has.
    FUSEDSSIM_MATH int map_size(Axis axis) const { return counted_size(size(axis), crop(axis)); }
    FUSEDSSIM_MATH bool counts(Axis axis, int position) const { return is_counted(position, size(axis), crop(axis)); }

    FUSEDSSIM_MATH std::int64_t planes() const { return images * channels; }
    FUSEDSSIM_MATH std::int64_t volume() const { return std::int64_t(depth) * height * width; }  // elements of a plane
    FUSEDSSIM_MATH std::int64_t map_volume() const {                                             // and of its map
        return std::int64_t(map_size(Axis::z)) * map_size(Axis::y) * map_size(Axis::x);
    }
    // Elements of a group: of the map, and of the images.
    FUSEDSSIM_MATH double map_elements() const { return double(planes_per_group) * double(map_volume()); }
    FUSEDSSIM_MATH double image_elements() const { return double(planes_per_group) * double(volume()); }
    FUSEDSSIM_MATH double ssim_factor() const {
        return reduction.ssim_weight * grad_scale / (reduction.is_mean && !mask.data ? map_elements() : 1);
    }
    FUSEDSSIM_MATH double l1_factor() const {
        return reduction.l1_weight * grad_scale / (reduction.is_mean && !mask.data ? image_elements() : 1);
    }
    // What multiplies the gradient of a block of the next coarser level.
    FUSEDSSIM_MATH double coarse_factor() const { return grad_scale / pooled_elements(is_3d); }
    // Whether the sums of the mask are wanted: by a value, or to divide the gradient of a mean.
    FUSEDSSIM_MATH bool needs_mask_sums() const { return mask.data && (value.data || reduction.is_mean); }
    // The data range of an image, from memory of the host.
    template <class A>
    FUSEDSSIM_MATH double data_range_of(std::int64_t image) const {
        return data_ranges.data ? double(static_cast<const A*>(data_ranges.data)[image * data_ranges.n]) : data_range;
    }
    // That of the gradient by an image of this dtype.
    FUSEDSSIM_MATH Dtype grad_dtype(Dtype image) const {
        return has_wide_grads || is_integer(image) ? arithmetic : image;
    }
    FUSEDSSIM_MATH int grads() const { return grad_y.data ? 2 : grad_x.data ? 1 : 0; }
};

// Makes y of x and x of y. SSIM is symmetric: the gradient by y of (x, y) is the gradient by x of (y, x).
inline void exchange_images(Problem& p) {
    std::swap(p.x, p.y);
    std::swap(p.x_dtype, p.y_dtype);
    std::swap(p.x_scale, p.y_scale);
    std::swap(p.grad_x, p.grad_y);
    std::swap(p.coarse_x, p.coarse_y);
}

// The arguments of the operations; what an operation does not have is NULL.
struct Arguments {
    const fusedssim_tensor *x, *y, *out, *grad_out, *grad_x, *grad_y;
    void* saved;
    std::size_t saved_bytes;
};

Problem make_forward(const fusedssim_params& params, const fusedssim_exec& exec, const Arguments& a);
Problem make_value_and_grad(const fusedssim_params& params, const fusedssim_exec& exec, const Arguments& a);
Problem make_backward(const fusedssim_params& params, const fusedssim_exec& exec, const Arguments& a);

// The problem of an operation on images like x and y, of which nothing but sizes is asked. y: NULL if it is like x. The
// pointers that the operation would be given, but for those of x and y, are set to something that is not NULL.
Problem make_sizes(const fusedssim_params& params, fusedssim_op op, fusedssim_grads grads, const fusedssim_tensor* x,
                   const fusedssim_tensor* y);

// Bytes that a forward saves for a backward that will write `grads`.
std::size_t saved_size(const Problem& p, const fusedssim_exec& exec, fusedssim_grads grads);

struct ScaleProblem {
    Dtype grad_dtype, scale_dtype;
    std::int64_t images, channels;
    std::int64_t depth, height, width;
    View scale, grad;
    double factor;
    // Gradients of the next coarser level of MS-SSIM, contiguous, whose elements are added to those of their blocks,
    // times the factor. All gradients are then of the type of the arithmetic, as is the scale. data NULL: none.
    View coarse;
    double coarse_factor;
    // Where the result goes as well, in another dtype; data NULL: nowhere. For backends of the host.
    View to;
    Dtype to_dtype;

    std::int64_t rows() const { return images * channels * depth * height; }
};
ScaleProblem make_scale(double factor, const fusedssim_tensor* scale, const fusedssim_tensor* grad);

// MS-SSIM of each plane, from the means of its levels.
struct CombineProblem {
    Dtype arithmetic;
    std::int64_t images, channels;
    std::int64_t groups, planes_per_group;
    bool is_mean;
    int levels;
    double weights[kMaxLevels];
    const void* means;  // [levels, planes]
    void* upstream;     // [levels, planes], the derivatives of the values by the means (out); may be NULL
    View value;         // (out); data may be NULL
};

}  // namespace fusedssim
