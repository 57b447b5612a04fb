// SPDX-License-Identifier: MIT
#include "settings.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "core/dtype.h"
#include "devices.h"
#include "error.h"
#include "gaussian.h"
#include "structs.h"

namespace fusedssim {

namespace {

void check_positive(double value, const char* name, const char* index = "") {
    if (!is_positive(value)) fail(kInvalid, "{%s}%s = %g, expected a positive number", name, index, value);
}

void check_not_negative(double value, const char* name) {
    if (!(value >= 0) || !std::isfinite(value)) fail(kInvalid, "{%s} = %g, expected a number >= 0", name, value);
}

// `index` is "[2]" for an axis with taps of its own, "" for those of all. So are they below.
void check_taps(const double* taps, int window_size, const char* name, const char* index) {
    double sum = 0;
    for (int i = 0; i < window_size; ++i) {
        const double tap = taps[i], mirrored = taps[window_size - 1 - i];
        if (!(tap >= 0) || !std::isfinite(tap))
            fail(kInvalid, "{%s}%s[%d] = %g, expected a number >= 0", name, index, i, tap);
        if (tap != mirrored)
            fail(kInvalid, "{%s}%s[%d] = %g but {%s}%s[%d] = %g, expected a symmetric window", name, index, i, tap,
                 name, index, window_size - 1 - i, mirrored);
        sum += tap;
    }
    if (std::abs(sum - 1) > 1e-4) fail(kInvalid, "the sum of {%s}%s is %g, expected 1", name, index, sum);
}

void check_window_size(int size, const char* name, const char* index) {
    if (size < 1 || size > FUSEDSSIM_MAX_WINDOW_SIZE || size % 2 == 0)
        fail(kInvalid, "{%s}%s = %d, expected an odd number from 1 to %d%s", name, index, size,
             FUSEDSSIM_MAX_WINDOW_SIZE, size % 2 == 0 ? ": a window has an element in its middle" : "");
}

// The window that params wants along an axis.
struct AxisWindow {
    int size;
    double sigma;
    const double* taps;  // NULL: a Gaussian
};
AxisWindow window_of(const fusedssim_params& params, int axis) {
    const int size = params.axis_window_size[axis];
    const double sigma = params.axis_sigma[axis];
    const bool is_own = size != 0 || sigma != 0;
    return {size ? size : int(params.window_size), sigma != 0 ? sigma : params.sigma,
            params.axis_taps[axis] ? params.axis_taps[axis]
            : is_own               ? nullptr
                                   : params.taps};
}

void check_windows(const fusedssim_params& params) {
    check_window_size(params.window_size, "params.window_size", "");
    if (params.taps)
        check_taps(params.taps, params.window_size, "params.taps", "");
    else
        check_positive(params.sigma, "params.sigma");
    for (int axis = 0; axis < kAxes; ++axis) {
        const char index[] = {'[', char('0' + axis), ']', 0};
        if (params.axis_window_size[axis])
            check_window_size(params.axis_window_size[axis], "params.axis_window_size", index);
        if (params.axis_sigma[axis] != 0)
            check_positive(params.axis_sigma[axis], "params.axis_sigma", index);
        else if (!window_of(params, axis).taps)
            check_positive(params.sigma, "params.sigma");
        if (params.axis_taps[axis])
            check_taps(params.axis_taps[axis], window_of(params, axis).size, "params.axis_taps", index);
    }
}

bool is_loss(fusedssim_objective objective) {
    switch (objective) {
        case FUSEDSSIM_OBJECTIVE_SSIM: return false;
        case FUSEDSSIM_OBJECTIVE_LOSS: return true;
        default: fail(kInvalid, "{params.objective} = %d is not a fusedssim_objective", int(objective));
    }
}

// What a device computes with must be normal numbers: 2 C1 or 2 C2, of k, and the squares of s = x + y.
void check_constant(const char* name, double k, double data_range, const char* range_name, const char* index,
                    Dtype arithmetic) {
    double least = 0, most = 0;
    dispatch_arithmetic(arithmetic, [&](auto zero) {
        least = std::numeric_limits<decltype(zero)>::min();
        most = std::numeric_limits<decltype(zero)>::max();
    });
    // The largest denominator is a bit above (2 L)^2, and its reciprocal must be a normal number, too.
    const double square = data_range * data_range, constant = 2 * (k * data_range) * (k * data_range);
    if (!(square >= least && square <= most / 32))
        fail(kInvalid, "{%s}%s = %g: its square is beyond the range of %s", range_name, index, data_range,
             dtype_name(arithmetic));
    if (k > 0 && !(constant >= least && constant <= most / 32))
        fail(kInvalid, "{%s}%s = %g: the square of {%s} * {%s} (%g) is beyond the range of %s", range_name, index,
             data_range, range_name, name, k, dtype_name(arithmetic));
}

}  // namespace

fusedssim_params read_params(const fusedssim_params* params) {
    fusedssim_params p = FUSEDSSIM_PARAMS_DEFAULT;
    read_struct(&p, sizeof p, 2 * sizeof(double), params, "params");
    return p;
}

fusedssim_exec read_exec(const fusedssim_exec* exec) {
    fusedssim_exec e = FUSEDSSIM_EXEC_DEFAULT;
    read_struct(&e, sizeof e, 2 * sizeof(double), exec, "exec");
    if (!find_backend(e.device)) fail(kInvalid, "{exec.device} = %d is not a fusedssim_device", int(e.device));
    if (e.device_id < 0) fail(kInvalid, "{exec.device_id} = %d, expected at least 0", int(e.device_id));
    if (e.cpu_threads < 0) fail(kInvalid, "{exec.cpu_threads} = %d, expected at least 0", int(e.cpu_threads));
    return e;
}

void check_params(const fusedssim_params& params) {
    const Edges edges = edges_of(params.padding);
    if (params.reduction < FUSEDSSIM_REDUCTION_MEAN || params.reduction > FUSEDSSIM_REDUCTION_NONE)
        fail(kInvalid, "{params.reduction} = %d is not a fusedssim_reduction", int(params.reduction));
    check_windows(params);
    check_not_negative(params.k1, "params.k1");
    check_not_negative(params.k2, "params.k2");
    if (!std::isfinite(params.grad_scale)) fail(kInvalid, "{params.grad_scale} = %g is not finite", params.grad_scale);
    const bool has_l1 = is_loss(params.objective);
    if (params.mask_mode != FUSEDSSIM_MASK_WEIGHT && params.mask_mode != FUSEDSSIM_MASK_NORMALIZED)
        fail(kInvalid, "{params.mask_mode} = %d is not a fusedssim_mask_mode", int(params.mask_mode));
    if (params.arithmetic != FUSEDSSIM_FLOAT32 && params.arithmetic != FUSEDSSIM_FLOAT64)
        fail(kInvalid, "{params.arithmetic} = %d, expected FUSEDSSIM_FLOAT32 or FUSEDSSIM_FLOAT64",
             int(params.arithmetic));
    if (params.sample_covariance != 0 && params.sample_covariance != 1)
        fail(kInvalid, "{params.sample_covariance} = %d, expected 0 or 1", int(params.sample_covariance));
    if (params.sample_covariance && params.mask && params.mask_mode == FUSEDSSIM_MASK_NORMALIZED)
        fail(kInvalid,
             "{params.sample_covariance} = 1 with a mask that normalises, expected 0: windows have no fixed "
             "number of elements there");
    if (params.reserved) fail(kInvalid, "{params.reserved} = %d, expected 0", int(params.reserved));
    check_positive(params.x_scale, "params.x_scale");
    check_positive(params.y_scale, "params.y_scale");
    if (!(params.variance_grad_scale >= 0 && params.variance_grad_scale <= 1))
        fail(kInvalid, "{params.variance_grad_scale} = %g, expected a number from 0 to 1", params.variance_grad_scale);
    if (!has_l1) return;
    if (!(params.lambda_dssim >= 0 && params.lambda_dssim <= 1))
        fail(kInvalid, "{params.lambda_dssim} = %g, expected a number from 0 to 1", params.lambda_dssim);
    if (params.reduction == FUSEDSSIM_REDUCTION_NONE && edges.is_cropped && params.lambda_dssim < 1)
        fail(kInvalid,
             "{params.reduction} = NONE with padding VALID and {params.lambda_dssim} = %g, expected 1: |{x} - {y}| has "
             "more elements than the map",
             params.lambda_dssim);
}

void require_workspace(const fusedssim_exec& exec, std::size_t bytes) {
    if (!bytes) return;
    if (!exec.workspace || exec.workspace_bytes < bytes)
        fail(FUSEDSSIM_WORKSPACE_TOO_SMALL,
             "{exec.workspace} = %p with {exec.workspace_bytes} = %llu, expected %zu bytes", exec.workspace,
             static_cast<unsigned long long>(exec.workspace_bytes), bytes);
    if (reinterpret_cast<std::uintptr_t>(exec.workspace) % 16)
        fail(FUSEDSSIM_WORKSPACE_TOO_SMALL, "{exec.workspace} = %p is not aligned to 16 bytes", exec.workspace);
}

Edges edges_of(fusedssim_padding padding) {
    switch (padding) {
        case FUSEDSSIM_PADDING_SAME: return {false, Border::zeros};
        case FUSEDSSIM_PADDING_VALID: return {true, Border::zeros};
        case FUSEDSSIM_PADDING_REFLECT: return {false, Border::reflect};
        case FUSEDSSIM_PADDING_SYMMETRIC: return {false, Border::symmetric};
        case FUSEDSSIM_PADDING_REPLICATE: return {false, Border::replicate};
        default: fail(kInvalid, "{params.padding} = %d is not a fusedssim_padding", int(padding));
    }
}

Window make_window(const fusedssim_params& params, Axis axis, bool is_3d, Dtype arithmetic) {
    Window w{};
    w.taps[0] = 1;
    if (axis == Axis::z && !is_3d) return w;
    const AxisWindow wanted = window_of(params, int(axis));
    w.radius = wanted.size / 2;
    w.crop = edges_of(params.padding).is_cropped ? w.radius : 0;
    if (wanted.taps) {
        std::copy_n(wanted.taps + w.radius, w.radius + 1, w.taps);
        return w;
    }
    fill_gaussian(wanted.sigma, w.radius, w.taps);
    if (arithmetic == Dtype::float32) round_to_float32(w.taps, w.radius);
    return w;
}

double covariance_divisor(const fusedssim_params& params, bool is_3d) {
    if (!params.sample_covariance) return 1;
    double n = 1;
    for (int axis = is_3d ? 0 : 1; axis < kAxes; ++axis) n *= window_of(params, axis).size;
    if (n == 1)
        fail(kInvalid,
             "{params.sample_covariance} = 1 with a window of one element, expected 0: n / (n - 1) is infinite");
    return std::sqrt(n / (n - 1));
}

void check_data_range(double data_range, const char* name, const char* index, const fusedssim_params& params,
                      Dtype arithmetic) {
    check_positive(data_range, name, index);
    check_constant("params.k1", params.k1, data_range, name, index, arithmetic);
    check_constant("params.k2", params.k2, data_range, name, index, arithmetic);
}

Reduction make_reduction(const fusedssim_params& params) {
    Reduction r{};
    r.is_mean = params.reduction != FUSEDSSIM_REDUCTION_SUM && params.reduction != FUSEDSSIM_REDUCTION_NONE;
    r.is_loss = is_loss(params.objective);
    r.ssim_weight = r.is_loss ? -params.lambda_dssim : 1;
    r.l1_weight = r.is_loss ? 1 - params.lambda_dssim : 0;
    return r;
}

}  // namespace fusedssim
