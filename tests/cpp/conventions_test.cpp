// SPDX-License-Identifier: MIT
//
// Every convention against its definition (oracle.h), whose gradients are checked by finite differences.
// `conventions_test <device> <group>`; each group draws cases from a seed: sizes from 1 element on, images and volumes,
// all paddings, windows for each axis, dtypes, strides, masks, losses, upstream maps.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "fusedssim/fusedssim.h"
#include "oracle.h"

// A shared library hides its own; a static one has it.
namespace fusedssim {
[[noreturn]] __attribute__((weak)) void unexpected_dtype(Dtype) { std::abort(); }
}  // namespace fusedssim

namespace {

int failures = 0, cases = 0;
fusedssim_device device = FUSEDSSIM_CPU;

// ---- Arrays ---------------------------------------------------------------------------------------------------------

std::mt19937 bits{1};
int below(int n) { return int(bits() % unsigned(n)); }
double uniform() { return bits() / 4294967296.0; }

struct Array {
    fusedssim_tensor t;
    std::vector<unsigned char> bytes;

    // Contiguous, or axes in another order, with gaps, or backwards.
    Array(fusedssim_dtype dtype, const std::vector<std::int64_t>& shape, bool is_strided)
        : t(fusedssim_contiguous(nullptr, dtype, int(shape.size()), shape.data())) {
        std::int64_t span = 0, low = 0;
        std::vector<int> order;
        for (int i = int(shape.size()) - 1; i >= 0; --i) order.push_back(i);
        if (is_strided) std::shuffle(order.begin(), order.end(), bits);
        for (const int axis : order) {
            std::int64_t stride = span + 1 + (is_strided ? below(2) : 0);
            span += stride * (shape[std::size_t(axis)] - 1);
            if (is_strided && below(4) == 0) {
                low += stride * (shape[std::size_t(axis)] - 1);
                stride = -stride;
            }
            t.stride[axis] = stride;
        }
        const std::size_t size = fusedssim::dtype_size(fusedssim::Dtype(dtype));
        bytes.resize(std::size_t(span + 1) * size);
        t.data = bytes.data() + std::size_t(low) * size;
    }
    template <class F>
    void each(F&& f) {  // f(address, number), in the order of a contiguous array
        std::int64_t index[FUSEDSSIM_MAX_NDIM] = {};
        const auto size = std::int64_t(fusedssim::dtype_size(fusedssim::Dtype(t.dtype)));
        for (std::size_t number = 0;; ++number) {
            std::int64_t offset = 0;
            for (int i = 0; i < t.ndim; ++i) offset += index[i] * t.stride[i];
            f(static_cast<unsigned char*>(t.data) + offset * size, number);
            int axis = t.ndim - 1;
            while (axis >= 0 && ++index[axis] == t.shape[axis]) index[axis--] = 0;
            if (axis < 0) return;
        }
    }
    // What the array holds of `v`, times `scale`.
    Values set(const Values& v, double scale = 1) {
        Values rounded(v.size());
        each([&](unsigned char* at, std::size_t i) {
            if (t.dtype == FUSEDSSIM_BOOL) {
                *at = v[i] != 0;
                rounded[i] = v[i] != 0;
                return;
            }
            fusedssim::dispatch_dtype(fusedssim::Dtype(t.dtype), [&](auto element) {
                using T = decltype(element);
                if constexpr (std::is_integral_v<T>)
                    element = T(std::lround(v[i] / scale));
                else
                    fusedssim::from_float(fusedssim::arithmetic_t<T>(v[i]), element);
                std::memcpy(at, &element, sizeof element);
                rounded[i] = double(fusedssim::to_float(element)) * scale;
            });
        });
        return rounded;
    }
    Values get() {
        Values v;
        each([&](unsigned char* at, std::size_t) {
            fusedssim::dispatch_dtype(fusedssim::Dtype(t.dtype), [&](auto element) {
                std::memcpy(&element, at, sizeof element);
                v.push_back(double(fusedssim::to_float(element)));
            });
        });
        return v;
    }
};

// ---- Cases ----------------------------------------------------------------------------------------------------------

struct Case {
    fusedssim_params params = FUSEDSSIM_PARAMS_DEFAULT;
    fusedssim_dtype x_dtype = FUSEDSSIM_FLOAT64, y_dtype = FUSEDSSIM_FLOAT64;
    bool is_3d = false, is_strided = false, has_mask = false, has_bool_mask = false, has_ranges = false;
    int images = 1, channels = 1, threads = 1;
    Extents size = {1, 1, 1};
    std::array<Values, 3> taps;  // of each axis
};

Values gaussian(int window, double sigma) {
    Values taps;
    double sum = 0;
    for (int k = -(window / 2); k <= window / 2; ++k) taps.push_back(std::exp(-0.5 * k * k / (sigma * sigma)));
    for (const double tap : taps) sum += tap;
    for (double& tap : taps) tap /= sum;
    return taps;
}

Case draw(fusedssim_padding padding) {
    Case c;
    c.params.padding = padding;
    c.is_3d = below(3) == 0;
    static constexpr int kWindows[] = {11, 11, 7, 1, 3, 5, 9, 13, 15, 33};
    c.params.window_size = kWindows[below(10)];
    if (c.is_3d && c.params.window_size > 11) c.params.window_size = 7;
    c.params.sigma = 0.6 + 2 * uniform();
    const int kind = below(4);  // the same Gaussian, a uniform one, sizes of each axis, taps of each axis
    if (kind == 1 && below(2)) c.params.window_size = 7;  // the CPU has filters for it
    const Values flat(33, 1.0 / c.params.window_size);
    static Values kept[4];  // taps live as long as the call
    kept[3] = flat;
    if (kind == 1) c.params.taps = kept[3].data();
    for (int axis = 0; axis < 3; ++axis) {
        Values& taps = c.taps[std::size_t(axis)];
        int window = c.params.window_size;
        taps = kind == 1 ? Values(flat.begin(), flat.begin() + window) : gaussian(window, c.params.sigma);
        if (kind >= 2 && below(3)) {
            window = kWindows[below(c.is_3d ? 7 : 10)];
            c.params.axis_window_size[axis] = window;
            c.params.axis_sigma[axis] = 0.5 + uniform();
            taps = gaussian(window, c.params.axis_sigma[axis]);
            if (kind == 3) {
                kept[axis] = taps = gaussian(window, 1 + uniform());
                c.params.axis_taps[axis] = kept[axis].data();
            }
        }
        if (axis == 0 && !c.is_3d) taps = {1};
    }
    for (int axis = c.is_3d ? 0 : 1; axis < 3; ++axis) {
        static constexpr int kSmall[] = {1, 2, 3, 5, 6, 11};
        const int free = below(3) ? 1 + below(c.is_3d ? 14 : 40) : kSmall[below(6)];
        c.size[std::size_t(axis)] =
            free + (padding == FUSEDSSIM_PADDING_VALID ? int(c.taps[std::size_t(axis)].size()) - 1 : 0);
    }
    if (!c.is_3d && below(12) == 0) c.size[2] = 250 + below(60);  // several tiles, and strips
    if (c.is_3d && below(12) == 0) c.size[1] = 60 + below(30);
    c.images = 1 + below(2);
    c.channels = 1 + below(3);
    c.threads = 1 + below(2);
    c.is_strided = below(2) != 0;
    return c;
}

bool is_integer(fusedssim_dtype dtype) { return dtype >= FUSEDSSIM_UINT8; }

void complain(const Case& c, const char* what, double error, double allowed) {
    std::fprintf(
        stderr,
        "%s: error %g, expected at most %g (case %d: padding %d, %dx%dx%d of %dx%d planes, windows %zu %zu %zu, "
        "dtypes %d %d, arithmetic %d, reduction %d, objective %d, mask %d mode %d, sample %d: %s)\n",
        what, error, allowed, cases, c.params.padding, c.size[0], c.size[1], c.size[2], c.images, c.channels,
        c.taps[0].size(), c.taps[1].size(), c.taps[2].size(), c.x_dtype, c.y_dtype, c.params.arithmetic,
        c.params.reduction, c.params.objective, c.has_mask, c.params.mask_mode, c.params.sample_covariance,
        fusedssim_last_error());
    ++failures;
}
void compare(const Case& c, const char* what, const Values& got, const Values& want, double tolerance, double least) {
    double error = 0, size = least;
    for (std::size_t i = 0; i < want.size(); ++i) {
        if (std::isnan(want[i]) && std::isnan(got[i])) continue;
        error = std::fmax(error, std::isfinite(got[i]) ? std::abs(got[i] - want[i]) : INFINITY);
        size = std::fmax(size, std::abs(want[i]));
    }
    if (!(error <= tolerance * size)) complain(c, what, error, tolerance * size);
}

// Draws images for a case, and compares what the library makes of them with the oracle.
void check(Case c) {
    ++cases;
    const bool is_double =
        c.x_dtype == FUSEDSSIM_FLOAT64 || c.y_dtype == FUSEDSSIM_FLOAT64 || c.params.arithmetic == FUSEDSSIM_FLOAT64;
    const fusedssim_dtype arithmetic = is_double ? FUSEDSSIM_FLOAT64 : FUSEDSSIM_FLOAT32;
    const auto shape_of = [&](const Extents& size, bool one_plane) {
        std::vector<std::int64_t> shape = {one_plane ? 1 : c.images, one_plane ? 1 : c.channels};
        for (int i = c.is_3d ? 0 : 1; i < 3; ++i) shape.push_back(size[std::size_t(i)]);
        return shape;
    };
    Oracle oracle{c.size, {}, 0, 0, 1, c.has_mask && c.params.mask_mode == FUSEDSSIM_MASK_NORMALIZED};
    double elements = 1;
    Extents map_size = c.size, crop = {0, 0, 0};
    for (std::size_t axis = 0; axis < 3; ++axis) {
        oracle.matrix[axis] = filter_of(c.params.padding, c.taps[axis], c.size[axis]);
        elements *= double(c.taps[axis].size());
        if (c.params.padding == FUSEDSSIM_PADDING_VALID) crop[axis] = int(c.taps[axis].size()) / 2;
        map_size[axis] -= 2 * crop[axis];
    }
    if (elements == 1) c.params.sample_covariance = 0;
    if (c.params.sample_covariance) oracle.factor = elements / (elements - 1);
    if (c.params.variance_grad_scale != 0) oracle.variance_grad_scale = c.params.variance_grad_scale;
    const auto planes = std::size_t(c.images * c.channels), n = oracle.count();
    const auto map_n = std::size_t(map_size[0] * map_size[1] * map_size[2]);
    const double scale_of_x = c.params.x_scale, scale_of_y = c.params.y_scale;
    const auto full_size = [](fusedssim_dtype d) {
        return d == FUSEDSSIM_UINT8 ? 255 : d == FUSEDSSIM_UINT16 ? 65535 : 32767;
    };
    const double top = is_integer(c.x_dtype)   ? full_size(c.x_dtype) * scale_of_x
                       : is_integer(c.y_dtype) ? full_size(c.y_dtype) * scale_of_y
                                               : 1;
    c.params.data_range = top;

    const auto shape = shape_of(c.size, false);
    const auto grad_dtype = [&](fusedssim_dtype dtype) { return is_integer(dtype) ? arithmetic : dtype; };
    Array in_x(c.x_dtype, shape, c.is_strided), in_y(c.y_dtype, shape, c.is_strided),
        grad_x(grad_dtype(c.x_dtype), shape, c.is_strided), grad_y(grad_dtype(c.y_dtype), shape, c.is_strided);
    Values x(planes * n), y(planes * n);
    const double noise = 0.1 + 0.9 * uniform();
    for (std::size_t i = 0; i < x.size(); ++i) {
        x[i] = top * uniform();
        y[i] = noise * top * uniform() + (1 - noise) * x[i];
    }
    x = in_x.set(x, scale_of_x);
    y = in_y.set(y, scale_of_y);
    const bool broadcasts = below(2) != 0;
    Array mask(c.has_bool_mask ? FUSEDSSIM_BOOL : arithmetic, shape_of(c.size, broadcasts), c.is_strided);
    Values m(broadcasts ? n : planes * n, 1);
    if (c.has_mask)
        for (double& each : m) each = below(4) ? uniform() : 0;
    if (c.has_mask) m = mask.set(m);
    if (c.has_mask) c.params.mask = &mask.t;
    Array ranges(arithmetic, {c.images}, false);
    Values range(std::size_t(c.images), top);
    if (c.has_ranges) {
        for (double& each : range) each = top * (0.5 + uniform());
        range = ranges.set(range);
        c.params.data_ranges = &ranges.t;
    }

    const bool is_map = c.params.reduction == FUSEDSSIM_REDUCTION_NONE;
    const bool is_loss = c.params.objective == FUSEDSSIM_OBJECTIVE_LOSS;
    if (is_map && is_loss && c.params.padding == FUSEDSSIM_PADDING_VALID) c.params.lambda_dssim = 1;
    const double of_ssim = is_loss ? -c.params.lambda_dssim : 1, of_l1 = is_loss ? 1 - c.params.lambda_dssim : 0;
    std::vector<std::int64_t> out_shape;
    if (is_map) out_shape = shape_of(map_size, false);
    if (c.params.reduction == FUSEDSSIM_REDUCTION_PER_IMAGE) out_shape = {c.images};
    if (c.params.reduction == FUSEDSSIM_REDUCTION_PER_PLANE) out_shape = {c.images, c.channels};
    const std::size_t groups = c.params.reduction == FUSEDSSIM_REDUCTION_PER_IMAGE   ? std::size_t(c.images)
                               : c.params.reduction == FUSEDSSIM_REDUCTION_PER_PLANE ? planes
                                                                                     : 1;
    const bool is_mean = !is_map && c.params.reduction != FUSEDSSIM_REDUCTION_SUM;
    Array out(arithmetic, out_shape, c.is_strided), upstream(arithmetic, out_shape, c.is_strided);
    Values u(is_map ? planes * map_n : groups);
    const bool is_backward = below(2) != 0;
    for (double& each : u) each = is_backward ? (below(5) ? 2 * uniform() - 1 : 0) : 1;
    u = upstream.set(u);

    // What the oracle says.
    const auto counts = [&](std::size_t i) {
        const int at[3] = {int(i / std::size_t(c.size[1] * c.size[2])), int(i / std::size_t(c.size[2])) % c.size[1],
                           int(i) % c.size[2]};
        for (std::size_t axis = 0; axis < 3; ++axis)
            if (at[axis] < crop[axis] || at[axis] >= c.size[axis] - crop[axis]) return false;
        return true;
    };
    std::vector<Values> mask_of(planes);
    Values map_mass(groups, 0), image_mass(groups, 0), want_out(is_map ? 0 : groups, 0), want_x, want_y;
    for (std::size_t plane = 0; plane < planes; ++plane) {
        mask_of[plane] = Values(m.begin() + std::ptrdiff_t(broadcasts ? 0 : plane * n),
                                m.begin() + std::ptrdiff_t((broadcasts ? 0 : plane * n) + n));
        for (std::size_t i = 0; i < n; ++i) {
            image_mass[plane * groups / planes] += mask_of[plane][i];
            if (counts(i)) map_mass[plane * groups / planes] += mask_of[plane][i];
        }
    }
    for (std::size_t plane = 0; plane < planes; ++plane) {
        const std::size_t group = plane * groups / planes;
        const double l = range[plane / std::size_t(c.channels)];
        oracle.c1 = std::pow(c.params.k1 * l, 2);
        oracle.c2 = std::pow(c.params.k2 * l, 2);
        const auto of = [&](const Values& v) {
            return Values(v.begin() + std::ptrdiff_t(plane * n), v.begin() + std::ptrdiff_t(plane * n + n));
        };
        const Values px = of(x), py = of(y), &pm = mask_of[plane];
        Values weights(n, 0), l1_weights(n, 0), grads[2];
        std::size_t next = plane * map_n;
        for (std::size_t i = 0; i < n; ++i) {
            const double own = is_map ? (counts(i) ? u[next++] : 0) : u[group];
            if (counts(i)) weights[i] = of_ssim * own * pm[i] / (is_mean ? map_mass[group] : 1);
            l1_weights[i] = of_l1 * own * pm[i] / (is_mean ? image_mass[group] : 1);
        }
        const Values s = oracle.map(px, py, pm, true, &weights, grads);
        for (std::size_t i = 0; i < n; ++i) {
            const double difference = px[i] - py[i];
            const double by_l1 = l1_weights[i] * ((difference > 0) - (difference < 0));
            want_x.push_back(grads[0][i] + by_l1);
            want_y.push_back(grads[1][i] - by_l1);
            const double l1 = of_l1 * std::abs(difference), dssim = is_loss ? -of_ssim * (1 - s[i]) : s[i];
            if (is_map && counts(i)) want_out.push_back(pm[i] * (l1 + dssim));
            if (!is_map)
                want_out[group] += pm[i] * (l1 / (is_mean ? image_mass[group] : 1) +
                                            (counts(i) ? dssim / (is_mean ? map_mass[group] : 1) : 0));
        }
    }

    // What the library says.
    fusedssim_exec exec = FUSEDSSIM_EXEC_DEFAULT;
    exec.device = device;
    exec.cpu_threads = c.threads;
    const bool has_x = device == FUSEDSSIM_CPU || !is_integer(c.x_dtype),
               has_y = device == FUSEDSSIM_CPU || !is_integer(c.y_dtype);
    const bool wants_y = has_y && (!has_x || below(2)), wants_x = has_x && (!wants_y || below(2));
    const fusedssim_tensor *to_x = wants_x ? &grad_x.t : nullptr, *to_y = wants_y ? &grad_y.t : nullptr;
    const fusedssim_grads which = (wants_x ? 1u : 0u) | (wants_y ? 2u : 0u);
    std::vector<double> workspace;
    const auto take_workspace = [&](fusedssim_op op) {
        std::size_t bytes = 0;
        if (fusedssim_workspace_size(&c.params, &exec, op, which, &in_x.t, &in_y.t, &bytes) != FUSEDSSIM_OK)
            complain(c, "workspace", 1, 0);
        workspace.assign(bytes / 16 * 2 + 2, 0);
        exec.workspace = workspace.data();
        exec.workspace_bytes = bytes;
    };
    take_workspace(FUSEDSSIM_OP_FORWARD);
    fusedssim_status status = fusedssim_forward(&c.params, &exec, &in_x.t, &in_y.t, &out.t, nullptr, 0);
    if (status != FUSEDSSIM_OK) return complain(c, "forward fails", status, 0);
    const double tolerance = is_double ? 1e-11 : 2e-4;
    compare(c, "forward", out.get(), want_out, tolerance, is_loss ? top : 1);
    if (which == 0) return;
    if (is_backward) {
        take_workspace(FUSEDSSIM_OP_BACKWARD);
        status = fusedssim_backward(&c.params, &exec, &in_x.t, &in_y.t, nullptr, 0, &upstream.t, to_x, to_y);
    } else {
        take_workspace(FUSEDSSIM_OP_VALUE_AND_GRAD);
        const Values before = out.get();
        status = fusedssim_value_and_grad(&c.params, &exec, &in_x.t, &in_y.t, &out.t, to_x, to_y);
        compare(c, "value beside the gradient", out.get(), before, is_double ? 1e-13 : 1e-5, 1);
    }
    if (status != FUSEDSSIM_OK) return complain(c, "gradient fails", status, 0);
    const auto compare_grad = [&](const char* what, Array& got, const Values& want) {
        const double of_dtype = got.t.dtype == FUSEDSSIM_BFLOAT16  ? 8e-3
                                : got.t.dtype == FUSEDSSIM_FLOAT16 ? 1e-3
                                : got.t.dtype == FUSEDSSIM_FLOAT32 ? 3e-7
                                                                   : 0;
        // A subnormal float16 has an error of its own.
        const double least = got.t.dtype == FUSEDSSIM_FLOAT16 ? 6e-5 : 1e-9 / top;
        compare(c, what, got.get(), want, of_dtype + (is_double ? 1e-9 : 2e-3), least);
    };
    if (to_x) compare_grad("grad_x", grad_x, want_x);
    if (to_y) compare_grad("grad_y", grad_y, want_y);
}

// ---- The groups -----------------------------------------------------------------------------------------------------

constexpr fusedssim_padding kPaddings[] = {FUSEDSSIM_PADDING_SAME, FUSEDSSIM_PADDING_VALID, FUSEDSSIM_PADDING_REFLECT,
                                           FUSEDSSIM_PADDING_SYMMETRIC, FUSEDSSIM_PADDING_REPLICATE};
constexpr int kCases = 60;  // of each padding

// What has nothing to do with borders and dtypes.
void draw_rest(Case& c) {
    c.params.reduction = below(5);
    c.params.sample_covariance = below(2);
    if (below(3) == 0) {
        c.params.objective = FUSEDSSIM_OBJECTIVE_LOSS;
        c.params.lambda_dssim = below(4) / 3.0;
    }
    c.has_mask = below(3) == 0;
    c.has_bool_mask = below(2) != 0;
    c.params.mask_mode = c.params.sample_covariance ? FUSEDSSIM_MASK_WEIGHT : below(2);
    c.has_ranges = below(4) == 0;
    if (below(4) == 0) c.params.variance_grad_scale = uniform();
}

// float64 throughout: any defect of a border or window shows.
void borders() {
    for (const fusedssim_padding padding : kPaddings)
        for (int i = 0; i < kCases; ++i) {
            Case c = draw(padding);
            draw_rest(c);
            check(c);
        }
}

// Images smaller than windows, with sides of 1 and 2 elements.
void small_images() {
    for (const fusedssim_padding padding : kPaddings)
        for (int i = 0; i < kCases && padding != FUSEDSSIM_PADDING_VALID; ++i) {
            Case c = draw(padding);
            draw_rest(c);
            for (std::size_t axis = c.is_3d ? 0 : 1; axis < 3; ++axis)
                c.size[axis] = 1 + below(std::max(2, int(c.taps[axis].size())));
            check(c);
        }
}

// Any pair of dtypes that is allowed, with and without float64 arithmetic.
void dtypes() {
    for (const fusedssim_padding padding : kPaddings)
        for (int i = 0; i < kCases; ++i) {
            Case c = draw(padding);
            draw_rest(c);
            static constexpr fusedssim_dtype kFloats[] = {FUSEDSSIM_FLOAT32, FUSEDSSIM_FLOAT64, FUSEDSSIM_FLOAT16,
                                                          FUSEDSSIM_BFLOAT16};
            static constexpr fusedssim_dtype kIntegers[] = {FUSEDSSIM_UINT8, FUSEDSSIM_UINT16, FUSEDSSIM_INT16};
            const int kind = below(4);  // floats, a float and an integer, the reverse, integers
            c.x_dtype = c.y_dtype = kFloats[below(4)];
            if (kind & 1) c.y_dtype = kIntegers[below(3)];
            if (kind & 2) c.x_dtype = kIntegers[below(3)];
            const auto scale_of = [](fusedssim_dtype dtype) {
                return dtype == FUSEDSSIM_UINT8 ? 1 / 255.0 : dtype == FUSEDSSIM_UINT16 ? 1 / 65535.0 : 1 / 32767.0;
            };
            if (is_integer(c.x_dtype) && (kind != 3 || below(2))) c.params.x_scale = scale_of(c.x_dtype);
            if (is_integer(c.y_dtype) && c.params.x_scale != 1) c.params.y_scale = scale_of(c.y_dtype);
            if (kind == 1) c.params.y_scale = scale_of(c.y_dtype);
            if (kind == 3 && c.params.x_scale == 1) c.y_dtype = c.x_dtype;
            if (below(2)) c.params.arithmetic = FUSEDSSIM_FLOAT64;
            check(c);
        }
}

// The oracle's own gradients.
void oracle() {
    for (const fusedssim_padding padding : kPaddings) {
        for (int i = 0; i < 8; ++i) {
            ++cases;
            const Case c = draw(padding);
            Extents size = {c.is_3d ? 1 + below(3) : 1, 1 + below(5), 1 + below(5)};
            if (padding == FUSEDSSIM_PADDING_VALID) size = {1, 7, 9};
            Oracle o{size, {}, 1e-4, 9e-4, 1.1, below(2) != 0};
            for (std::size_t axis = 0; axis < 3; ++axis) o.matrix[axis] = filter_of(padding, c.taps[axis], size[axis]);
            const std::size_t n = o.count();
            Values x(n), y(n), m(n, 1), weights(n), grads[2];
            for (std::size_t k = 0; k < n; ++k) {
                x[k] = uniform();
                y[k] = uniform();
                weights[k] = uniform() - 0.5;
                if (below(3) == 0) m[k] = 0.3;
            }
            o.map(x, y, m, true, &weights, grads);
            for (int side = 0; side < 2; ++side) {
                Values numeric(n);
                for (std::size_t k = 0; k < n; ++k) {
                    constexpr double kStep = 1e-6;
                    Values& v = side ? y : x;
                    const double at = v[k];
                    for (const int sign : {1, -1}) {
                        v[k] = at + sign * kStep;
                        const Values s = o.map(x, y, m, true, nullptr, nullptr);
                        for (std::size_t j = 0; j < n; ++j) numeric[k] += sign * weights[j] * s[j] / (2 * kStep);
                    }
                    v[k] = at;
                }
                compare(c, "gradient of the oracle", grads[side], numeric, 1e-6, 1e-3);
            }
        }
    }
}

// MS-SSIM of one plane: averages over blocks of 2 elements, an axis of odd size with a zero in front.
Values pooled(const Values& v, const Extents& size, const Extents& to_size, bool is_3d, bool is_transposed) {
    Values to(
        is_transposed ? std::size_t(size[0] * size[1] * size[2]) : std::size_t(to_size[0] * to_size[1] * to_size[2]),
        0);
    for (int z = 0; z < size[0]; ++z)
        for (int y = 0; y < size[1]; ++y)
            for (int x = 0; x < size[2]; ++x) {
                const int block_z = (z + size[0] % 2 * int(is_3d)) / (is_3d ? 2 : 1);
                const int block = (block_z * to_size[1] + (y + size[1] % 2) / 2) * to_size[2] + (x + size[2] % 2) / 2;
                const int at = (z * size[1] + y) * size[2] + x;
                const double factor = is_3d ? 0.125 : 0.25;
                if (is_transposed)
                    to[std::size_t(at)] = factor * v[std::size_t(block)];
                else
                    to[std::size_t(block)] += factor * v[std::size_t(at)];
            }
    return to;
}
void levels() {
    for (const fusedssim_padding padding : kPaddings)
        for (int i = 0; i < 12; ++i) {
            Case c = draw(padding);
            ++cases;
            if (padding == FUSEDSSIM_PADDING_VALID) continue;  // sizes that fit are rare; tests of Python have them
            for (std::size_t axis = c.is_3d ? 0 : 1; axis < 3; ++axis) c.size[axis] += 2;
            c.x_dtype = below(2) ? FUSEDSSIM_FLOAT32 : FUSEDSSIM_FLOAT64;
            c.y_dtype = FUSEDSSIM_UINT8;
            c.params.arithmetic = FUSEDSSIM_FLOAT64;
            c.params.y_scale = 1 / 255.0;
            double elements = 1;
            for (const Values& taps : c.taps) elements *= double(taps.size());
            c.params.sample_covariance = elements > 1 && below(2);
            fusedssim_ms_params ms = FUSEDSSIM_MS_PARAMS_DEFAULT;
            ms.levels = 1 + below(4);
            std::vector<std::int64_t> shape = {1, 1};
            for (std::size_t axis = c.is_3d ? 0 : 1; axis < 3; ++axis) shape.push_back(c.size[axis]);
            Array in_x(c.x_dtype, shape, c.is_strided), in_y(c.y_dtype, shape, c.is_strided),
                grad_x(c.x_dtype, shape, c.is_strided), out(FUSEDSSIM_FLOAT64, {}, false);
            const auto n = std::size_t(c.size[0] * c.size[1] * c.size[2]);
            Values x(n), y(n);
            for (std::size_t k = 0; k < n; ++k) {
                x[k] = uniform();
                y[k] = 0.7 * x[k] + 0.3 * uniform();
            }
            std::vector<Values> xs = {in_x.set(x)}, ys = {in_y.set(y, c.params.y_scale)};
            std::vector<Extents> sizes = {c.size};
            std::vector<Values> by(std::size_t(ms.levels));
            Values means;
            double value = 1;
            for (int level = 0; level < ms.levels; ++level) {
                const Extents size = sizes.back();
                Oracle o{size, {}, 1e-4, 9e-4, c.params.sample_covariance ? elements / (elements - 1) : 1, false};
                for (std::size_t axis = 0; axis < 3; ++axis)
                    o.matrix[axis] = filter_of(padding, c.taps[axis], size[axis]);
                const Values weights(o.count(), 1.0 / double(o.count()));
                Values grads[2];
                const Values s = o.map(xs.back(), ys.back(), {}, level + 1 == ms.levels, &weights, grads);
                double mean = 0;
                for (const double each : s) mean += each / double(s.size());
                means.push_back(mean);
                by[std::size_t(level)] = grads[0];
                value *= std::pow(std::fmax(mean, 0), ms.weights[level]);
                const Extents next = {c.is_3d ? (size[0] + 1) / 2 : 1, (size[1] + 1) / 2, (size[2] + 1) / 2};
                xs.push_back(pooled(xs.back(), size, next, c.is_3d, false));
                ys.push_back(pooled(ys.back(), size, next, c.is_3d, false));
                sizes.push_back(next);
            }
            Values grad;
            for (int level = ms.levels - 1; level >= 0; --level) {
                const auto l = std::size_t(level);
                Values own = by[l];
                for (double& each : own) each *= value == 0 ? 0 : ms.weights[level] * value / means[l];
                if (!grad.empty()) {
                    const Values from = pooled(grad, sizes[l], sizes[l + 1], c.is_3d, true);
                    for (std::size_t k = 0; k < own.size(); ++k) own[k] += from[k];
                }
                grad = own;
            }
            fusedssim_exec exec = FUSEDSSIM_EXEC_DEFAULT;
            exec.device = device;
            std::size_t bytes = 0;
            fusedssim_status status =
                fusedssim_ms_workspace_size(&c.params, &ms, &exec, FUSEDSSIM_GRAD_X, &in_x.t, &in_y.t, &bytes);
            std::vector<double> workspace(bytes / 16 * 2 + 2);
            exec.workspace = workspace.data();
            exec.workspace_bytes = bytes;
            if (status == FUSEDSSIM_OK)
                status =
                    fusedssim_ms_value_and_grad(&c.params, &ms, &exec, &in_x.t, &in_y.t, &out.t, &grad_x.t, nullptr);
            if (status != FUSEDSSIM_OK) {
                complain(c, "MS-SSIM fails", status, 0);
                continue;
            }
            compare(c, "MS-SSIM", out.get(), {value}, 1e-11, 1);
            compare(c, "gradient of MS-SSIM", grad_x.get(), grad, c.x_dtype == FUSEDSSIM_FLOAT32 ? 3e-7 : 1e-9, 1e-9);
        }
}

const struct {
    const char* name;
    void (*run)();
} kGroups[] = {
    {"oracle", oracle}, {"borders", borders}, {"small_images", small_images}, {"dtypes", dtypes}, {"levels", levels}};

}  // namespace

int main(int argc, char** argv) {
    if (argc > 1) device = std::strcmp(argv[1], "cuda") == 0 ? FUSEDSSIM_CUDA : FUSEDSSIM_CPU;
    if (argc > 3) bits.seed(unsigned(std::strtoul(argv[3], nullptr, 10)));  // other cases
    bool found = false;
    for (const auto& group : kGroups)
        if (argc < 3 || std::strcmp(argv[2], group.name) == 0) {
            group.run();
            found = true;
        }
    std::printf("%d cases\n", cases);
    return failures != 0 || !found;
}
