// SPDX-License-Identifier: MIT
#include "problem.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/dtype.h"
#include "error.h"

namespace fusedssim {

namespace {

constexpr int kInvalid = FUSEDSSIM_INVALID_ARGUMENT;

fusedssim_tensor read_any_tensor(const fusedssim_tensor* tensor, const char* name) {
    fusedssim_tensor t{};
    read_struct(&t, sizeof t, sizeof t, tensor, name);
    if (t.reserved) fail(kInvalid, "{%s}.reserved = %d, expected 0", name, int(t.reserved));
    if (!dtype_name(t.dtype))
        fail(FUSEDSSIM_INVALID_DTYPE, "{%s}.dtype = %d is not a fusedssim_dtype", name, int(t.dtype));
    if (t.ndim < 0 || t.ndim > FUSEDSSIM_MAX_NDIM)
        fail(kInvalid, "{%s}.ndim = %d, expected 0 to %d", name, int(t.ndim), FUSEDSSIM_MAX_NDIM);
    for (int i = 0; i < t.ndim; ++i)
        if (t.shape[i] < 1)
            fail(kInvalid, "{%s}.shape[%d] = %lld, expected at least 1", name, i, static_cast<long long>(t.shape[i]));
    return t;
}

fusedssim_tensor read_tensor(const fusedssim_tensor* tensor, const char* name) {
    const fusedssim_tensor t = read_any_tensor(tensor, name);
    if (t.dtype == FUSEDSSIM_BOOL)
        fail(FUSEDSSIM_INVALID_DTYPE, "{%s}.dtype = bool, expected float32, float64, float16 or bfloat16", name);
    return t;
}

void require_data(const fusedssim_tensor& t, const char* name) {
    if (!t.data) fail(kInvalid, "{%s}.data is NULL", name);
    const std::size_t size = dtype_size(t.dtype);
    if (reinterpret_cast<std::uintptr_t>(t.data) % size)
        fail(kInvalid, "{%s}.data = %p is not aligned to the %zu bytes of a %s", name, t.data, size,
             dtype_name(t.dtype));
}

// Outputs must not write an element twice: sorted by stride, each axis has to step over all that lies below it.
void require_no_self_overlap(const fusedssim_tensor& t, const char* name) {
    int order[FUSEDSSIM_MAX_NDIM], axes = 0;
    for (int i = 0; i < t.ndim; ++i) {
        if (t.shape[i] == 1) continue;
        int k = axes++;
        for (; k > 0 && std::abs(t.stride[order[k - 1]]) > std::abs(t.stride[i]); --k) order[k] = order[k - 1];
        order[k] = i;
    }
    std::int64_t span = 0;  // distance from the first to the last element of the axes so far
    for (int k = 0; k < axes; ++k) {
        const int i = order[k];
        const std::int64_t stride = std::abs(t.stride[i]);
        if (stride <= span)
            fail(kInvalid, "{%s}.stride[%d] = %lld makes elements of {%s} overlap", name, i,
                 static_cast<long long>(t.stride[i]), name);
        span += stride * (t.shape[i] - 1);
    }
}

void require_same_shape(const fusedssim_tensor& t, const char* name, int ndim, const std::int64_t* shape,
                        const char* what) {
    if (t.ndim != ndim) fail(kInvalid, "{%s}.ndim = %d, expected %d (%s)", name, int(t.ndim), ndim, what);
    for (int i = 0; i < ndim; ++i)
        if (t.shape[i] != shape[i])
            fail(kInvalid, "{%s}.shape[%d] = %lld, expected %lld (%s)", name, i, static_cast<long long>(t.shape[i]),
                 static_cast<long long>(shape[i]), what);
}

void require_dtype(const fusedssim_tensor& t, const char* name, fusedssim_dtype dtype, const char* why) {
    if (t.dtype != dtype)
        fail(FUSEDSSIM_INVALID_DTYPE, "{%s}.dtype = %s, expected %s (%s)", name, dtype_name(t.dtype), dtype_name(dtype),
             why);
}

void require_distinct(const fusedssim_tensor& out, const char* name, const fusedssim_tensor& in, const char* in_name) {
    if (out.data == in.data) fail(kInvalid, "{%s}.data = {%s}.data: {%s} would be overwritten", name, in_name, in_name);
}

// The view of an image, a volume or a map.
View spatial_view(const fusedssim_tensor& t) {
    const std::int64_t* s = t.stride;
    return t.ndim == 5 ? View{t.data, s[0], s[1], s[2], s[3], s[4]} : View{t.data, s[0], s[1], 0, s[2], s[3]};
}

// The view of a value for everything, for each image or for each plane.
View group_view(const fusedssim_tensor& t) {
    return View{t.data, t.ndim > 0 ? t.stride[0] : 0, t.ndim > 1 ? t.stride[1] : 0, 0, 0, 0};
}

// Those that are given, or a Gaussian, computed in double, that sums to 1.
void fill_taps(Problem& p, const fusedssim_params& params) {
    double sum = 0;
    if (params.taps) {
        for (int i = 0; i < params.window_size; ++i) {
            const double tap = params.taps[i], mirrored = params.taps[params.window_size - 1 - i];
            if (!(tap >= 0) || !std::isfinite(tap))
                fail(kInvalid, "{params.taps}[%d] = %g, expected a number >= 0", i, tap);
            if (tap != mirrored)
                fail(kInvalid, "{params.taps}[%d] = %g but {params.taps}[%d] = %g, expected a symmetric window", i, tap,
                     params.window_size - 1 - i, mirrored);
            sum += tap;
        }
        if (std::abs(sum - 1) > 1e-4) fail(kInvalid, "the sum of {params.taps} is %g, expected 1", sum);
        for (int k = 0; k <= p.radius; ++k) p.taps[k] = params.taps[p.radius + k];
        return;
    }
    for (int k = 0; k <= p.radius; ++k) {
        const double z = k / params.sigma;
        p.taps[k] = std::exp(-0.5 * z * z);
        sum += k ? 2 * p.taps[k] : p.taps[k];
    }
    for (int k = 0; k <= p.radius; ++k) p.taps[k] /= sum;
}

void check_positive(double value, const char* name) {
    if (!(value > 0) || !std::isfinite(value)) fail(kInvalid, "{%s} = %g, expected a positive number", name, value);
}

void check_params(const fusedssim_params& params) {
    if (params.padding != FUSEDSSIM_PADDING_SAME && params.padding != FUSEDSSIM_PADDING_VALID)
        fail(kInvalid, "{params.padding} = %d is not a fusedssim_padding", int(params.padding));
    if (params.reduction < FUSEDSSIM_REDUCTION_MEAN || params.reduction > FUSEDSSIM_REDUCTION_NONE)
        fail(kInvalid, "{params.reduction} = %d is not a fusedssim_reduction", int(params.reduction));
    if (params.window_size < 1 || params.window_size > FUSEDSSIM_MAX_WINDOW_SIZE || params.window_size % 2 == 0)
        fail(kInvalid, "{params.window_size} = %d, expected an odd number from 1 to %d", int(params.window_size),
             FUSEDSSIM_MAX_WINDOW_SIZE);
    if (!params.taps) check_positive(params.sigma, "params.sigma");
    check_positive(params.data_range, "params.data_range");
    for (const auto& [value, name] : {std::pair{params.k1, "params.k1"}, std::pair{params.k2, "params.k2"}})
        if (!(value >= 0) || !std::isfinite(value)) fail(kInvalid, "{%s} = %g, expected a number >= 0", name, value);
    if (!std::isfinite(params.grad_scale)) fail(kInvalid, "{params.grad_scale} = %g is not finite", params.grad_scale);
    if (params.objective != FUSEDSSIM_OBJECTIVE_SSIM && params.objective != FUSEDSSIM_OBJECTIVE_LOSS)
        fail(kInvalid, "{params.objective} = %d is not a fusedssim_objective", int(params.objective));
    if (params.mask_mode != FUSEDSSIM_MASK_WEIGHT && params.mask_mode != FUSEDSSIM_MASK_NORMALIZED)
        fail(kInvalid, "{params.mask_mode} = %d is not a fusedssim_mask_mode", int(params.mask_mode));
    if (params.objective == FUSEDSSIM_OBJECTIVE_LOSS) {
        if (!(params.lambda_dssim >= 0 && params.lambda_dssim <= 1))
            fail(kInvalid, "{params.lambda_dssim} = %g, expected a number from 0 to 1", params.lambda_dssim);
        if (params.reduction == FUSEDSSIM_REDUCTION_NONE && params.padding == FUSEDSSIM_PADDING_VALID &&
            params.lambda_dssim < 1)
            fail(kInvalid,
                 "{params.reduction} = NONE with padding VALID and {params.lambda_dssim} = %g, expected 1: |{x} - {y}| "
                 "has "
                 "more elements than the map",
                 params.lambda_dssim);
    }
}

// A mask for images like x; its data may be NULL if only sizes are asked for.
void set_mask(Problem& p, const fusedssim_params& params, const fusedssim_tensor& x, bool needs_data) {
    if (!params.mask) return;
    const fusedssim_tensor t = read_any_tensor(params.mask, "params.mask");
    const fusedssim_dtype arithmetic = arithmetic_dtype(x.dtype);
    if (t.dtype != FUSEDSSIM_BOOL && t.dtype != arithmetic)
        fail(FUSEDSSIM_INVALID_DTYPE, "{params.mask}.dtype = %s, expected bool or %s (the type of the arithmetic)",
             dtype_name(t.dtype), dtype_name(arithmetic));
    if (t.ndim != x.ndim)
        fail(kInvalid, "{params.mask}.ndim = %d, expected %d (the axes of {x})", int(t.ndim), int(x.ndim));
    fusedssim_tensor broadcast = t;
    for (int i = 0; i < t.ndim; ++i) {
        if (t.shape[i] != 1 && t.shape[i] != x.shape[i])
            fail(kInvalid, "{params.mask}.shape[%d] = %lld, expected %lld (the shape of {x}) or 1", i,
                 static_cast<long long>(t.shape[i]), static_cast<long long>(x.shape[i]));
        if (t.shape[i] == 1) broadcast.stride[i] = 0;
    }
    if (needs_data) require_data(t, "params.mask");
    static char anything;
    p.mask = spatial_view(broadcast);
    if (!needs_data) p.mask.data = &anything;
    p.mask_is_bool = t.dtype == FUSEDSSIM_BOOL;
    p.is_normalized = params.mask_mode == FUSEDSSIM_MASK_NORMALIZED;
}

// All axes but the first are int in the kernels, with room for what they add to them.
void require_axis_fits(const fusedssim_tensor& t, const char* name, int axis) {
    constexpr std::int64_t kMost = std::numeric_limits<int>::max() - 4096;
    if (axis > 0 && t.shape[axis] > kMost)
        fail(kInvalid, "{%s}.shape[%d] = %lld, expected at most %lld", name, axis,
             static_cast<long long>(t.shape[axis]), static_cast<long long>(kMost));
}

// C1 and C2 have to be normal numbers, or 0, in the type of the arithmetic.
void check_constant(double constant, fusedssim_dtype dtype, const char* name, double k, double data_range) {
    const bool is_double = arithmetic_dtype(dtype) == FUSEDSSIM_FLOAT64;
    const double least = is_double ? std::numeric_limits<double>::min() : std::numeric_limits<float>::min();
    const double most = is_double ? std::numeric_limits<double>::max() : std::numeric_limits<float>::max();
    if (k > 0 && !(constant >= least && constant <= most))
        fail(kInvalid,
             "{params.data_range} = %g: the square of {params.data_range} * {%s} (%g) is beyond the range of %s",
             data_range, name, k, dtype_name(arithmetic_dtype(dtype)));
}

// Everything that follows from params and the shape of x.
Problem make_base(const fusedssim_params& params, const fusedssim_tensor& x) {
    check_params(params);
    if (x.ndim != 4 && x.ndim != 5)
        fail(kInvalid, "{x}.ndim = %d, expected 4 ([N, C, H, W]) or 5 ([N, C, D, H, W])", int(x.ndim));
    Problem p{};
    p.is_3d = x.ndim == 5;
    p.dtype = x.dtype;
    p.radius = params.window_size / 2;
    p.crop = params.padding == FUSEDSSIM_PADDING_VALID ? p.radius : 0;
    std::int64_t elements = 1;
    for (int i = 0; i < x.ndim; ++i) {
        require_axis_fits(x, "x", i);
        if (i >= 2 && x.shape[i] <= 2 * std::int64_t(p.crop))
            fail(kInvalid, "{x}.shape[%d] = %lld < window %d (padding valid)", i, static_cast<long long>(x.shape[i]),
                 int(params.window_size));
        if (x.shape[i] > (std::int64_t(1) << 56) / elements)
            fail(kInvalid, "{x}.shape[%d] = %lld: {x} has more than 2^56 elements", i,
                 static_cast<long long>(x.shape[i]));
        elements *= x.shape[i];
    }
    p.images = x.shape[0];
    p.channels = x.shape[1];
    p.depth = p.is_3d ? int(x.shape[2]) : 1;
    p.height = int(x.shape[x.ndim - 2]);
    p.width = int(x.shape[x.ndim - 1]);
    fill_taps(p, params);
    const double c1 = params.k1 * params.data_range, c2 = params.k2 * params.data_range;
    p.c1x2 = 2 * c1 * c1;
    p.c2x2 = 2 * c2 * c2;
    check_constant(p.c1x2, x.dtype, "params.k1", params.k1, params.data_range);
    check_constant(p.c2x2, x.dtype, "params.k2", params.k2, params.data_range);
    // A window of one tap has no variance: the contrast is 1 whatever C2 is. A large C2 keeps the derivatives by the
    // variances, which would cancel, from spoiling the gradient.
    if (p.radius == 0) p.c2x2 = 1e30;

    p.groups = 1;
    p.planes_per_group = p.planes();
    if (params.reduction == FUSEDSSIM_REDUCTION_PER_IMAGE) {
        p.groups = p.images;
        p.planes_per_group = p.channels;
    } else if (params.reduction == FUSEDSSIM_REDUCTION_PER_PLANE) {
        p.groups = p.planes();
        p.planes_per_group = 1;
    }
    p.reduction.is_mean = params.reduction != FUSEDSSIM_REDUCTION_SUM && params.reduction != FUSEDSSIM_REDUCTION_NONE;
    p.reduction.is_loss = params.objective == FUSEDSSIM_OBJECTIVE_LOSS;
    p.reduction.ssim_weight = p.reduction.is_loss ? -params.lambda_dssim : 1;
    p.reduction.l1_weight = p.reduction.is_loss ? 1 - params.lambda_dssim : 0;
    p.grad_scale = params.grad_scale;
    p.upstream = kUpstreamOne;
    return p;
}

// The shape that the reduction gives `out`; returns the number of axes.
int out_shape(const Problem& p, const fusedssim_params& params, std::int64_t* shape) {
    int n = 0;
    if (params.reduction >= FUSEDSSIM_REDUCTION_PER_IMAGE) shape[n++] = p.images;
    if (params.reduction >= FUSEDSSIM_REDUCTION_PER_PLANE) shape[n++] = p.channels;
    if (params.reduction == FUSEDSSIM_REDUCTION_NONE) {
        if (p.is_3d) shape[n++] = p.depth - 2 * p.crop;
        shape[n++] = p.height - 2 * p.crop;
        shape[n++] = p.width - 2 * p.crop;
    }
    return n;
}

std::size_t saved_bytes_of(const Problem& p, fusedssim_device device, int grads) {
    // In one pass over an image, or on the CPU, computing again is cheaper than memory.
    if (device != FUSEDSSIM_CUDA || !p.is_3d) return 0;
    return partial_maps_bytes(p, grads);
}

struct Checked {
    fusedssim_tensor x, y;
    Problem problem;
};

// What all three operations share.
Checked make_images(const fusedssim_params& params, const fusedssim_exec& exec, const Arguments& a) {
    Checked c{read_tensor(a.x, "x"), read_tensor(a.y, "y"), {}};
    require_dtype(c.y, "y", c.x.dtype, "the dtype of {x}");
    require_same_shape(c.y, "y", c.x.ndim, c.x.shape, "the shape of {x}");
    c.problem = make_base(params, c.x);
    set_mask(c.problem, params, c.x, true);
    require_data(c.x, "x");
    require_data(c.y, "y");
    c.problem.x = spatial_view(c.x);
    c.problem.y = spatial_view(c.y);
    if (a.saved) {
        for (const int grads : {1, 2}) {
            const std::size_t bytes = saved_bytes_of(c.problem, exec.device, grads);
            if (bytes && bytes == a.saved_bytes) c.problem.saved_grads = grads;
        }
        if (!c.problem.saved_grads)
            fail(kInvalid,
                 "{saved_bytes} = %zu, expected what fusedssim_saved_size() gives: %zu for one gradient, %zu for both",
                 a.saved_bytes, saved_bytes_of(c.problem, exec.device, 1), saved_bytes_of(c.problem, exec.device, 2));
        if (reinterpret_cast<std::uintptr_t>(a.saved) % 16)
            fail(kInvalid, "{saved} = %p is not aligned to 16 bytes", a.saved);
        c.problem.saved = a.saved;
    } else if (a.saved_bytes) {
        fail(kInvalid, "{saved} is NULL with {saved_bytes} = %zu, expected 0", a.saved_bytes);
    }
    return c;
}

// Checks a tensor with one value for each element of `out`, and returns its view.
View check_out(const Checked& c, const fusedssim_params& params, const fusedssim_tensor& t, const char* name) {
    std::int64_t shape[FUSEDSSIM_MAX_NDIM];
    const int ndim = out_shape(c.problem, params, shape);
    require_dtype(t, name, arithmetic_dtype(c.x.dtype), "the type of the arithmetic");
    require_same_shape(t, name, ndim, shape, "as the reduction and the padding want");
    require_data(t, name);
    return params.reduction == FUSEDSSIM_REDUCTION_NONE ? spatial_view(t) : group_view(t);
}

void set_out(Checked& c, const fusedssim_params& params, const fusedssim_tensor* out) {
    const fusedssim_tensor t = read_tensor(out, "out");
    const View view = check_out(c, params, t, "out");
    require_no_self_overlap(t, "out");
    require_distinct(t, "out", c.x, "x");
    require_distinct(t, "out", c.y, "y");
    if (t.data == c.problem.mask.data) fail(kInvalid, "{out}.data is also the data of {params.mask}");
    (params.reduction == FUSEDSSIM_REDUCTION_NONE ? c.problem.map : c.problem.value) = view;
}

View check_grad(const Checked& c, const fusedssim_tensor* grad, const char* name) {
    const fusedssim_tensor t = read_tensor(grad, name);
    require_dtype(t, name, c.x.dtype, "the dtype of {x}");
    require_same_shape(t, name, c.x.ndim, c.x.shape, "the shape of {x}");
    require_data(t, name);
    require_no_self_overlap(t, name);
    require_distinct(t, name, c.x, "x");
    require_distinct(t, name, c.y, "y");
    return spatial_view(t);
}

void set_grads(Checked& c, const Arguments& a) {
    if (!a.grad_x && !a.grad_y) fail(kInvalid, "{grad_x} and {grad_y} are both NULL, expected at least one");
    Problem& p = c.problem;
    if (a.grad_x) p.grad_x = check_grad(c, a.grad_x, "grad_x");
    if (a.grad_y) p.grad_y = check_grad(c, a.grad_y, "grad_y");
    void* const others[] = {p.grad_y.data, p.map.data, p.value.data, p.grad_out.data, p.saved, p.mask.data};
    const char* const names[] = {"grad_y", "out", "out", "grad_out", "saved", "params.mask"};
    for (int i = 0; i < 6; ++i) {
        if (p.grad_x.data && p.grad_x.data == others[i])
            fail(kInvalid, "{grad_x}.data is also the data of {%s}", names[i]);
        if (i && p.grad_y.data && p.grad_y.data == others[i])
            fail(kInvalid, "{grad_y}.data is also the data of {%s}", names[i]);
    }
    if (p.saved && p.saved_grads == 1 && a.grad_y)
        fail(kInvalid, "{saved} was filled for {grad_x} alone ({saved_bytes} = %zu), expected {grad_y} to be NULL",
             a.saved_bytes);
    if (!p.grad_x.data && !p.saved) {
        // SSIM is symmetric: the gradient by y of (x, y) is the gradient by x of (y, x).
        std::swap(p.x, p.y);
        std::swap(p.grad_x, p.grad_y);
    }
}

}  // namespace

std::uint32_t read_struct_size(const void* from, std::size_t size, const char* name) {
    if (!from) fail(kInvalid, "{%s} is NULL", name);
    std::uint32_t given;
    std::memcpy(&given, from, sizeof given);
    if (given < 2 * sizeof given || given > 65536)
        fail(kInvalid, "{%s}.struct_size = %u, expected the size of the structure (%zu)", name, unsigned(given), size);
    return given;
}

void read_struct(void* to, std::size_t size, std::size_t least, const void* from, const char* name) {
    const std::uint32_t given = read_struct_size(from, size, name);
    if (given < least || given % 8)
        fail(kInvalid, "{%s}.struct_size = %u, expected the size of the structure (%zu)", name, unsigned(given), size);
    const auto* bytes = static_cast<const unsigned char*>(from);
    for (std::size_t i = size; i < given; ++i)
        if (bytes[i])
            fail(kInvalid, "{%s}.struct_size = %u: byte %zu is not zero, and this library knows only the first %zu",
                 name, unsigned(given), i, size);
    std::memcpy(to, from, std::min<std::size_t>(size, given));
}

fusedssim_params read_params(const fusedssim_params* params) {
    fusedssim_params p = FUSEDSSIM_PARAMS_DEFAULT;
    read_struct(&p, sizeof p, 2 * sizeof(double), params, "params");
    return p;
}

fusedssim_exec read_exec(const fusedssim_exec* exec) {
    fusedssim_exec e = FUSEDSSIM_EXEC_DEFAULT;
    read_struct(&e, sizeof e, 2 * sizeof(double), exec, "exec");
    if (e.device != FUSEDSSIM_CPU && e.device != FUSEDSSIM_CUDA)
        fail(kInvalid, "{exec.device} = %d is not a fusedssim_device", int(e.device));
    if (e.device_id < 0) fail(kInvalid, "{exec.device_id} = %d, expected at least 0", int(e.device_id));
    if (e.cpu_threads < 0) fail(kInvalid, "{exec.cpu_threads} = %d, expected at least 0", int(e.cpu_threads));
    return e;
}

Problem make_forward(const fusedssim_params& params, const fusedssim_exec& exec, const Arguments& a) {
    Checked c = make_images(params, exec, a);
    set_out(c, params, a.out);
    return c.problem;
}

Problem make_value_and_grad(const fusedssim_params& params, const fusedssim_exec& exec, const Arguments& a) {
    Checked c = make_images(params, exec, a);
    if (a.out) set_out(c, params, a.out);
    set_grads(c, a);
    return c.problem;
}

Problem make_backward(const fusedssim_params& params, const fusedssim_exec& exec, const Arguments& a) {
    Checked c = make_images(params, exec, a);
    c.problem.grad_out = check_out(c, params, read_tensor(a.grad_out, "grad_out"), "grad_out");
    c.problem.upstream = params.reduction == FUSEDSSIM_REDUCTION_NONE ? kUpstreamMap : kUpstreamPlane;
    set_grads(c, a);
    return c.problem;
}

Problem make_sizes(const fusedssim_params& params, fusedssim_op op, fusedssim_grads grads, const fusedssim_tensor* x) {
    const fusedssim_tensor t = read_tensor(x, "x");
    Problem p = make_base(params, t);
    set_mask(p, params, t, false);
    if (op < FUSEDSSIM_OP_FORWARD || op > FUSEDSSIM_OP_BACKWARD_SAVED)
        fail(kInvalid, "{op} = %d is not a fusedssim_op", int(op));
    if (grads & ~std::uint32_t(FUSEDSSIM_GRAD_X | FUSEDSSIM_GRAD_Y))
        fail(kInvalid, "{grads} = %u, expected a combination of FUSEDSSIM_GRAD_X and FUSEDSSIM_GRAD_Y",
             unsigned(grads));
    const bool writes_value = op == FUSEDSSIM_OP_FORWARD || op == FUSEDSSIM_OP_VALUE_AND_GRAD;
    static char anything;
    void* const something = &anything;
    if (writes_value) (params.reduction == FUSEDSSIM_REDUCTION_NONE ? p.map : p.value).data = something;
    if (op != FUSEDSSIM_OP_FORWARD && grads) p.grad_x.data = something;
    if (op != FUSEDSSIM_OP_FORWARD && grads == (FUSEDSSIM_GRAD_X | FUSEDSSIM_GRAD_Y)) p.grad_y.data = something;
    if (op == FUSEDSSIM_OP_BACKWARD_SAVED) {
        p.saved = something;
        p.saved_grads = 2;
    }
    return p;
}

fusedssim_ms_params read_ms_params(const fusedssim_ms_params* ms) {
    fusedssim_ms_params m = FUSEDSSIM_MS_PARAMS_DEFAULT;
    read_struct(&m, sizeof m, 2 * sizeof(double), ms, "ms");
    return m;
}

namespace {

MsProblem make_ms_base(const fusedssim_params& params, const fusedssim_ms_params& ms, const fusedssim_tensor& x) {
    if (ms.levels < 1 || ms.levels > FUSEDSSIM_MAX_LEVELS)
        fail(kInvalid, "{ms.levels} = %d, expected 1 to %d", int(ms.levels), FUSEDSSIM_MAX_LEVELS);
    MsProblem m{};
    m.levels = ms.levels;
    for (int i = 0; i < ms.levels; ++i) {
        if (!(ms.weights[i] >= 0) || !std::isfinite(ms.weights[i]))
            fail(kInvalid, "{ms.weights}[%d] = %g, expected a number >= 0", i, ms.weights[i]);
        m.weights[i] = ms.weights[i];
    }
    if (params.reduction == FUSEDSSIM_REDUCTION_NONE)
        fail(kInvalid, "{params.reduction} = NONE, expected another: MS-SSIM has no map");
    if (params.objective != FUSEDSSIM_OBJECTIVE_SSIM)
        fail(kInvalid, "{params.objective} = LOSS, expected SSIM: MS-SSIM has no other");
    if (params.mask) fail(kInvalid, "{params.mask} is given, expected NULL: MS-SSIM takes no mask");
    const std::int64_t least = std::int64_t(params.window_size - 1) << (ms.levels - 1);
    for (int i = 2; i < std::min(x.ndim, FUSEDSSIM_MAX_NDIM) && params.padding == FUSEDSSIM_PADDING_VALID; ++i)
        if (x.shape[i] <= least)
            fail(kInvalid,
                 "{x}.shape[%d] = %lld, expected more than %lld: ({params.window_size} - 1) * 2^({ms.levels} - 1), "
                 "padding valid",
                 i, static_cast<long long>(x.shape[i]), static_cast<long long>(least));
    return m;
}

}  // namespace

MsProblem make_ms(const fusedssim_params& params, const fusedssim_ms_params& ms, const fusedssim_exec& exec,
                  const Arguments& a) {
    MsProblem m = make_ms_base(params, ms, read_tensor(a.x, "x"));
    m.first = a.grad_x || a.grad_y ? make_value_and_grad(params, exec, a) : make_forward(params, exec, a);
    return m;
}

MsProblem make_ms_sizes(const fusedssim_params& params, const fusedssim_ms_params& ms, fusedssim_grads grads,
                        const fusedssim_tensor* x) {
    MsProblem m = make_ms_base(params, ms, read_tensor(x, "x"));
    m.first = make_sizes(params, grads ? FUSEDSSIM_OP_VALUE_AND_GRAD : FUSEDSSIM_OP_FORWARD, grads, x);
    return m;
}

ScaleProblem make_scale(double factor, const fusedssim_tensor* scale, const fusedssim_tensor* grad) {
    if (!std::isfinite(factor)) fail(kInvalid, "{factor} = %g is not finite", factor);
    const fusedssim_tensor s = read_tensor(scale, "scale"), g = read_tensor(grad, "grad");
    if (g.ndim != 4 && g.ndim != 5) fail(kInvalid, "{grad}.ndim = %d, expected 4 or 5", int(g.ndim));
    require_dtype(s, "scale", arithmetic_dtype(g.dtype), "the type of the arithmetic");
    if (s.ndim > 2) fail(kInvalid, "{scale}.ndim = %d, expected 0, 1 ([N]) or 2 ([N, C])", int(s.ndim));
    require_same_shape(s, "scale", s.ndim, g.shape, "the first axes of {grad}");
    require_data(s, "scale");
    require_data(g, "grad");
    require_no_self_overlap(g, "grad");
    require_distinct(g, "grad", s, "scale");
    for (int i = 0; i < g.ndim; ++i) require_axis_fits(g, "grad", i);
    ScaleProblem p{};
    p.dtype = g.dtype;
    p.scale_dtype = s.dtype;
    p.images = g.shape[0];
    p.channels = g.shape[1];
    p.depth = g.ndim == 5 ? g.shape[2] : 1;
    p.height = g.shape[g.ndim - 2];
    p.width = g.shape[g.ndim - 1];
    p.scale = group_view(s);
    p.grad = spatial_view(g);
    p.factor = factor;
    return p;
}

std::size_t partial_maps_bytes(const Problem& p, int grads) {
    const std::int64_t positions = p.planes() * p.depth * p.height * partial_maps_pitch(p);
    return std::size_t(filtered_maps(grads)) * std::size_t(positions) * dtype_size(arithmetic_dtype(p.dtype));
}

std::size_t saved_size(const Problem& p, fusedssim_device device, fusedssim_grads grads) {
    // The maps for grad_x alone do not serve grad_y: those of both do.
    return grads ? saved_bytes_of(p, device, grads == FUSEDSSIM_GRAD_X ? 1 : 2) : 0;
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

}  // namespace fusedssim
