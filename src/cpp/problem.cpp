// SPDX-License-Identifier: MIT
#include "problem.h"

#include <cmath>
#include <limits>
#include <string>

#include "core/dtype.h"
#include "devices.h"
#include "error.h"
#include "settings.h"
#include "tensors.h"

namespace fusedssim {

namespace {

// The dtype of the arithmetic for x and y.
Dtype arithmetic_of(const fusedssim_params& params, const fusedssim_tensor& x, const fusedssim_tensor& y) {
    const auto wants_double = [](fusedssim_dtype images) {
        return fusedssim_arithmetic_dtype(images) == FUSEDSSIM_FLOAT64;
    };
    return params.arithmetic == FUSEDSSIM_FLOAT64 || wants_double(x.dtype) || wants_double(y.dtype) ? Dtype::float64
                                                                                                    : Dtype::float32;
}

void check_scale(double scale, const char* name, const fusedssim_tensor& image, const char* image_name) {
    if (scale != 1 && !is_integer(dtype_of(image)))
        fail(kInvalid, "{%s} = %g, expected 1: {%s}.dtype = %s is not an integer", name, scale, image_name,
             dtype_name(dtype_of(image)));
}

// Everything that follows from params, the shape of x and both dtypes.
Problem make_base(const fusedssim_params& params, const fusedssim_tensor& x, const fusedssim_tensor& y) {
    check_params(params);
    if (x.ndim != 4 && x.ndim != 5)
        fail(kInvalid, "{x}.ndim = %d, expected 4 ([N, C, H, W]) or 5 ([N, C, D, H, W])", int(x.ndim));
    Problem p{};
    p.is_3d = x.ndim == 5;
    p.arithmetic = arithmetic_of(params, x, y);
    p.x_dtype = dtype_of(x);
    p.y_dtype = dtype_of(y);
    p.x_scale = params.x_scale;
    p.y_scale = params.y_scale;
    p.border = edges_of(params.padding).border;
    for (const Axis axis : {Axis::z, Axis::y, Axis::x})
        p.windows[int(axis)] = make_window(params, axis, p.is_3d, p.arithmetic);
    std::int64_t elements = 1;
    for (int i = 0; i < x.ndim; ++i) {
        require_axis_fits(x, "x", i);
        if (i >= 2 && x.shape[i] <= 2 * std::int64_t(p.crop(axis_of(x, i))))
            fail(kInvalid, "{x}.shape[%d] = %lld < window %d (padding valid)", i, static_cast<long long>(x.shape[i]),
                 2 * p.radius(axis_of(x, i)) + 1);
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
    if (!params.data_ranges) check_data_range(params.data_range, "params.data_range", "", params, p.arithmetic);
    p.data_range = params.data_range;
    p.k1 = params.k1;
    // A window of one tap has no variance: the contrast is 1 whatever C2 is. The derivatives by the variances cancel,
    // but for rounding. An infinite C2 makes them 0, so that they do not spoil the gradient.
    p.k2 =
        p.max_radius() == 0 ? std::numeric_limits<double>::infinity() : params.k2 / covariance_divisor(params, p.is_3d);

    p.groups = 1;
    p.planes_per_group = p.planes();
    if (params.reduction == FUSEDSSIM_REDUCTION_PER_IMAGE) {
        p.groups = p.images;
        p.planes_per_group = p.channels;
    } else if (params.reduction == FUSEDSSIM_REDUCTION_PER_PLANE) {
        p.groups = p.planes();
        p.planes_per_group = 1;
    }
    p.reduction = make_reduction(params);
    p.grad_scale = params.grad_scale;
    p.variance_grad_scale = params.variance_grad_scale == 0 ? 1 : params.variance_grad_scale;
    p.upstream = kUpstreamOne;
    return p;
}

// A mask for images like x; its data may be NULL if only sizes are asked for.
void set_mask(Problem& p, const fusedssim_params& params, const fusedssim_tensor& x, bool needs_data) {
    if (!params.mask) return;
    const fusedssim_tensor t = read_any_tensor(params.mask, "params.mask");
    if (dtype_of(t) != Dtype::boolean && dtype_of(t) != p.arithmetic)
        fail(FUSEDSSIM_INVALID_DTYPE, "{params.mask}.dtype = %s, expected bool or %s (the type of the arithmetic)",
             dtype_name(dtype_of(t)), dtype_name(p.arithmetic));
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
    p.mask_is_bool = dtype_of(t) == Dtype::boolean;
    p.is_normalized = params.mask_mode == FUSEDSSIM_MASK_NORMALIZED;
}

// The data ranges of images like x; their data may be NULL if only sizes are asked for.
void set_data_ranges(Problem& p, const fusedssim_params& params, const fusedssim_tensor& x, bool needs_data) {
    if (!params.data_ranges) return;
    const char* const name = "params.data_ranges";
    const fusedssim_tensor t = read_tensor(params.data_ranges, name);
    require_dtype(t, name, p.arithmetic, "the type of the arithmetic");
    if (t.ndim > 1) fail(kInvalid, "{%s}.ndim = %d, expected 0 or 1 ([N])", name, int(t.ndim));
    require_same_shape(t, name, t.ndim, x.shape, "the number of images");
    if (!needs_data) return;
    require_data(t, name);
    p.data_ranges = group_view(t);
}

// The shape that the reduction gives `out`; returns the number of axes.
int out_shape(const Problem& p, const fusedssim_params& params, std::int64_t* shape) {
    int n = 0;
    if (params.reduction >= FUSEDSSIM_REDUCTION_PER_IMAGE) shape[n++] = p.images;
    if (params.reduction >= FUSEDSSIM_REDUCTION_PER_PLANE) shape[n++] = p.channels;
    if (params.reduction == FUSEDSSIM_REDUCTION_NONE) {
        if (p.is_3d) shape[n++] = p.map_size(Axis::z);
        shape[n++] = p.map_size(Axis::y);
        shape[n++] = p.map_size(Axis::x);
    }
    return n;
}

// Of a device whose memory is that of the host.
void check_data_ranges(const Problem& p, const fusedssim_params& params) {
    dispatch_arithmetic(p.arithmetic, [&](auto zero) {
        for (std::int64_t i = 0; i < (p.data_ranges.n ? p.images : 1); ++i) {
            const std::string index = params.data_ranges->ndim ? "[" + std::to_string(i) + "]" : "";
            check_data_range(p.data_range_of<decltype(zero)>(i), "params.data_ranges", index.c_str(), params,
                             p.arithmetic);
        }
    });
}

struct Checked {
    fusedssim_tensor x, y;
    Problem problem;
};

// What all three operations share.
Checked make_images(const fusedssim_params& params, const fusedssim_exec& exec, const Arguments& a) {
    Checked c{read_tensor(a.x, "x"), read_tensor(a.y, "y"), {}};
    if (!is_integer(dtype_of(c.x)) && !is_integer(dtype_of(c.y)))
        require_dtype(c.y, "y", dtype_of(c.x), "the dtype of {x}, or one of integers");
    require_same_shape(c.y, "y", c.x.ndim, c.x.shape, "the shape of {x}");
    c.problem = make_base(params, c.x, c.y);
    check_scale(params.x_scale, "params.x_scale", c.x, "x");
    check_scale(params.y_scale, "params.y_scale", c.y, "y");
    set_mask(c.problem, params, c.x, true);
    set_data_ranges(c.problem, params, c.x, true);
    if (c.problem.data_ranges.data && backend_of(exec).is_host) check_data_ranges(c.problem, params);
    require_data(c.x, "x");
    require_data(c.y, "y");
    c.problem.x = spatial_view(c.x);
    c.problem.y = spatial_view(c.y);
    if (a.saved) {
        const std::size_t for_one = backend_of(exec).saved_bytes(c.problem, 1);
        const std::size_t for_both = backend_of(exec).saved_bytes(c.problem, 2);
        if (for_one && a.saved_bytes == for_one) c.problem.saved_grads = 1;
        if (for_both && a.saved_bytes == for_both) c.problem.saved_grads = 2;
        if (!c.problem.saved_grads)
            fail(kInvalid,
                 "{saved_bytes} = %zu, expected what fusedssim_saved_size() gives: %zu for one gradient, %zu for both",
                 a.saved_bytes, for_one, for_both);
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
    require_dtype(t, name, c.problem.arithmetic, "the type of the arithmetic");
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
    if (t.data == c.problem.data_ranges.data) fail(kInvalid, "{out}.data is also the data of {params.data_ranges}");
    (params.reduction == FUSEDSSIM_REDUCTION_NONE ? c.problem.map : c.problem.value) = view;
}

// The gradient by `image`, which is x or y.
View check_grad(const Checked& c, const fusedssim_exec& exec, const fusedssim_tensor* grad, const char* name,
                const fusedssim_tensor& image, const char* image_name) {
    const fusedssim_tensor t = read_tensor(grad, name);
    const bool is_by_integers = is_integer(dtype_of(image));
    if (is_by_integers && !backend_of(exec).is_host)
        fail(FUSEDSSIM_INVALID_DTYPE, "{%s} is given, expected NULL: {%s}.dtype = %s has no gradient on this device",
             name, image_name, dtype_name(dtype_of(image)));
    require_dtype(
        t, name, c.problem.grad_dtype(dtype_of(image)),
        is_by_integers ? "the type of the arithmetic" : ("the dtype of {" + std::string(image_name) + "}").c_str());
    require_same_shape(t, name, c.x.ndim, c.x.shape, "the shape of {x}");
    require_data(t, name);
    require_no_self_overlap(t, name);
    require_distinct(t, name, c.x, "x");
    require_distinct(t, name, c.y, "y");
    return spatial_view(t);
}

void set_grads(Checked& c, const fusedssim_exec& exec, const Arguments& a) {
    if (!a.grad_x && !a.grad_y) fail(kInvalid, "{grad_x} and {grad_y} are both NULL, expected at least one");
    Problem& p = c.problem;
    if (a.grad_x) p.grad_x = check_grad(c, exec, a.grad_x, "grad_x", c.x, "x");
    if (a.grad_y) p.grad_y = check_grad(c, exec, a.grad_y, "grad_y", c.y, "y");
    void* const others[] = {p.grad_y.data, p.map.data,  p.value.data,      p.grad_out.data,
                            p.saved,       p.mask.data, p.data_ranges.data};
    const char* const names[] = {"grad_y", "out", "out", "grad_out", "saved", "params.mask", "params.data_ranges"};
    for (int i = 0; i < 7; ++i) {
        if (p.grad_x.data && p.grad_x.data == others[i])
            fail(kInvalid, "{grad_x}.data is also the data of {%s}", names[i]);
        if (i && p.grad_y.data && p.grad_y.data == others[i])
            fail(kInvalid, "{grad_y}.data is also the data of {%s}", names[i]);
    }
    if (p.saved && p.saved_grads == 1 && a.grad_y)
        fail(kInvalid, "{saved} was filled for {grad_x} alone ({saved_bytes} = %zu), expected {grad_y} to be NULL",
             a.saved_bytes);
    if (!p.grad_x.data && !p.saved) exchange_images(p);
}

}  // namespace

Problem make_forward(const fusedssim_params& params, const fusedssim_exec& exec, const Arguments& a) {
    Checked c = make_images(params, exec, a);
    set_out(c, params, a.out);
    return c.problem;
}

Problem make_value_and_grad(const fusedssim_params& params, const fusedssim_exec& exec, const Arguments& a) {
    Checked c = make_images(params, exec, a);
    if (a.out) set_out(c, params, a.out);
    set_grads(c, exec, a);
    return c.problem;
}

Problem make_backward(const fusedssim_params& params, const fusedssim_exec& exec, const Arguments& a) {
    Checked c = make_images(params, exec, a);
    c.problem.grad_out = check_out(c, params, read_tensor(a.grad_out, "grad_out"), "grad_out");
    c.problem.upstream = params.reduction == FUSEDSSIM_REDUCTION_NONE ? kUpstreamMap : kUpstreamPlane;
    set_grads(c, exec, a);
    return c.problem;
}

Problem make_sizes(const fusedssim_params& params, fusedssim_op op, fusedssim_grads grads, const fusedssim_tensor* x,
                   const fusedssim_tensor* y) {
    const fusedssim_tensor t = read_tensor(x, "x"), u = y ? read_tensor(y, "y") : t;
    Problem p = make_base(params, t, u);
    require_same_shape(u, "y", t.ndim, t.shape, "the shape of {x}");
    p.x = spatial_view(t);
    p.y = spatial_view(u);
    p.x.data = p.y.data = nullptr;
    set_mask(p, params, t, false);
    set_data_ranges(p, params, t, false);
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

ScaleProblem make_scale(double factor, const fusedssim_tensor* scale, const fusedssim_tensor* grad) {
    if (!std::isfinite(factor)) fail(kInvalid, "{factor} = %g is not finite", factor);
    const fusedssim_tensor s = read_tensor(scale, "scale"), g = read_tensor(grad, "grad");
    if (is_integer(dtype_of(g)))
        fail(FUSEDSSIM_INVALID_DTYPE, "{grad}.dtype = %s, expected float32, float64, float16 or bfloat16",
             dtype_name(dtype_of(g)));
    if (g.ndim != 4 && g.ndim != 5) fail(kInvalid, "{grad}.ndim = %d, expected 4 or 5", int(g.ndim));
    require_dtype(s, "scale", arithmetic_dtype(dtype_of(g)), "the type of the arithmetic");
    if (s.ndim > 2) fail(kInvalid, "{scale}.ndim = %d, expected 0, 1 ([N]) or 2 ([N, C])", int(s.ndim));
    require_same_shape(s, "scale", s.ndim, g.shape, "the first axes of {grad}");
    require_data(s, "scale");
    require_data(g, "grad");
    require_no_self_overlap(g, "grad");
    require_distinct(g, "grad", s, "scale");
    for (int i = 0; i < g.ndim; ++i) require_axis_fits(g, "grad", i);
    ScaleProblem p{};
    p.grad_dtype = dtype_of(g);
    p.scale_dtype = dtype_of(s);
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

std::size_t saved_size(const Problem& p, const fusedssim_exec& exec, fusedssim_grads grads) {
    // What serves grad_x alone does not serve grad_y; what serves both does.
    return grads ? backend_of(exec).saved_bytes(p, grads == FUSEDSSIM_GRAD_X ? 1 : 2) : 0;
}

}  // namespace fusedssim
