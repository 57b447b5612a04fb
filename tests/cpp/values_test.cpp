// SPDX-License-Identifier: MIT
//
// Values that need no oracle: what two calls must have in common, to the bit or nearly. `values_test <device> <group>` runs
// one group of checks on "cpu" or "cuda"; tests/simulator runs them on its simulated device, too.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "fusedssim/fusedssim.h"
#include "gaussian.h"

namespace {

using Extents = std::vector<std::int64_t>;

int failures = 0;
fusedssim_device device = FUSEDSSIM_CPU;
bool on_cuda() { return device == FUSEDSSIM_CUDA; }

#define CHECK(condition)                                                                                        \
    do {                                                                                                        \
        if (!(condition)) {                                                                                     \
            std::fprintf(stderr, "%s:%d: not so: %s\n    (%s; the last error is \"%s\")\n", __FILE__, __LINE__, \
                         #condition, what.c_str(), fusedssim_last_error());                                     \
            ++failures;                                                                                         \
        }                                                                                                       \
    } while (0)
std::string what;  // what is being checked

const Extents kImages = {3, 2, 23, 37}, kVolumes = {3, 1, 9, 13, 21};
const float kNaN = std::numeric_limits<float>::quiet_NaN(), kInfinity = std::numeric_limits<float>::infinity();

std::size_t count(const Extents& shape) {
    std::size_t n = 1;
    for (const std::int64_t size : shape) n *= std::size_t(size);
    return n;
}
fusedssim_dtype dtype(float) { return FUSEDSSIM_FLOAT32; }
fusedssim_dtype dtype(double) { return FUSEDSSIM_FLOAT64; }
template <class A>
fusedssim_tensor tensor(const std::vector<A>& v, const Extents& shape) {
    return fusedssim_contiguous(const_cast<A*>(v.data()), dtype(A()), int(shape.size()), shape.data());
}

// Random numbers that a seed gives.
template <class A = float>
std::vector<A> random(const Extents& shape, unsigned seed, double low = 0, double high = 1) {
    std::mt19937 bits{seed};
    std::vector<A> v(count(shape));
    for (A& each : v) each = A(low + (high - low) * (bits() / 4294967296.0));
    return v;
}
template <class A>
bool same_bits(const std::vector<A>& a, const std::vector<A>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(A)) == 0;
}
template <class A, class B>
bool near(const std::vector<A>& a, const std::vector<B>& b, double tolerance) {
    double difference = 0, size = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        difference = std::fmax(difference, std::abs(double(a[i]) - double(b[i])));
        size = std::fmax(size, std::abs(double(b[i])));
        if (!std::isfinite(a[i]) || !std::isfinite(b[i])) return false;
    }
    if (difference > tolerance * size) std::fprintf(stderr, "%g of %g\n", difference, size);
    return a.size() == b.size() && difference <= tolerance * size;
}

Extents shape_of_out(const fusedssim_params& params, const Extents& shape) {
    switch (params.reduction) {
        case FUSEDSSIM_REDUCTION_PER_IMAGE: return {shape[0]};
        case FUSEDSSIM_REDUCTION_PER_PLANE: return {shape[0], shape[1]};
        case FUSEDSSIM_REDUCTION_NONE: break;
        default: return {};
    }
    Extents out = shape;
    if (params.padding == FUSEDSSIM_PADDING_VALID)
        for (std::size_t i = 2; i < out.size(); ++i) out[i] -= params.window_size - 1;
    return out;
}

template <class A>
struct Results {
    fusedssim_status status;
    std::vector<A> out, grad_x, grad_y;
};
template <class A>
bool same_bits(const Results<A>& a, const Results<A>& b) {
    return a.status == FUSEDSSIM_OK && b.status == FUSEDSSIM_OK && same_bits(a.out, b.out) &&
           same_bits(a.grad_x, b.grad_x) && same_bits(a.grad_y, b.grad_y);
}
template <class A>
bool is_untouched(const Results<A>& r) {
    for (const auto* v : {&r.out, &r.grad_x, &r.grad_y})
        for (const A each : *v)
            if (each != A(-123)) return false;
    return true;
}

// Value and both gradients.
template <class A>
Results<A> run(const fusedssim_params& params, const Extents& shape, const std::vector<A>& x, const std::vector<A>& y,
               const fusedssim_ms_params* ms = nullptr) {
    fusedssim_exec exec = FUSEDSSIM_EXEC_DEFAULT;
    exec.device = device;
    exec.cpu_threads = 1;
    const Extents out_shape = shape_of_out(params, shape);
    Results<A> r{FUSEDSSIM_OK, std::vector<A>(count(out_shape), -123), std::vector<A>(x.size(), -123),
                 std::vector<A>(x.size(), -123)};
    const fusedssim_tensor in_x = tensor(x, shape), in_y = tensor(y, shape), out = tensor(r.out, out_shape),
                           grad_x = tensor(r.grad_x, shape), grad_y = tensor(r.grad_y, shape);
    std::size_t bytes = 0;
    r.status = ms ? fusedssim_ms_workspace_size(&params, ms, &exec, 3, &in_x, &bytes)
                  : fusedssim_workspace_size(&params, &exec, FUSEDSSIM_OP_VALUE_AND_GRAD, 3, &in_x, &bytes);
    if (r.status != FUSEDSSIM_OK) return r;
    std::vector<double> workspace(bytes / 16 * 2 + 2);
    std::memset(workspace.data(), 0xff, workspace.size() * sizeof(double));
    exec.workspace = workspace.data();
    exec.workspace_bytes = bytes;
    r.status = ms ? fusedssim_ms_value_and_grad(&params, ms, &exec, &in_x, &in_y, &out, &grad_x, &grad_y)
                  : fusedssim_value_and_grad(&params, &exec, &in_x, &in_y, &out, &grad_x, &grad_y);
    return r;
}

// ---- The groups ------------------------------------------------------------------------------------------------------

const fusedssim_params kDefault = FUSEDSSIM_PARAMS_DEFAULT;
const fusedssim_ms_params kTwoLevels = {sizeof(fusedssim_ms_params), 2, {0.3, 0.7}};

// Image i of several.
template <class A>
std::vector<A> image(const std::vector<A>& v, const Extents& shape, std::size_t i) {
    const auto size = std::ptrdiff_t(v.size() / std::size_t(shape[0]));
    return {v.begin() + std::ptrdiff_t(i) * size, v.begin() + std::ptrdiff_t(i + 1) * size};
}

// Each image with its own range has what it would have alone.
template <class A>
void check_data_ranges(const fusedssim_params& given, const Extents& shape, const fusedssim_ms_params* ms) {
    fusedssim_params params = given;
    const auto x = random<A>(shape, 1), y = random<A>(shape, 2);
    const std::vector<A> ranges = {A(0.1), A(255), A(1)};
    const fusedssim_tensor per_image = tensor(ranges, {3}), one = tensor(ranges, {});
    params.data_ranges = &per_image;
    const auto together = run(params, shape, x, y, ms);
    CHECK(together.status == FUSEDSSIM_OK);
    params.data_ranges = &one;
    const auto with_tensor = run(params, shape, x, y, ms);
    params.data_ranges = nullptr;
    params.data_range = double(ranges[0]);
    CHECK(same_bits(with_tensor, run(params, shape, x, y, ms)));
    Extents alone = shape;
    alone[0] = 1;
    for (std::size_t i = 0; i < ranges.size(); ++i) {
        params.data_range = double(ranges[i]);
        const auto single = run(params, alone, image(x, shape, i), image(y, shape, i), ms);
        CHECK(single.status == FUSEDSSIM_OK);
        const double tolerance = sizeof(A) == 4 ? 1e-6 : 1e-12;
        CHECK(near(image(together.out, shape, i), single.out, tolerance));
        CHECK(near(image(together.grad_x, shape, i), single.grad_x, tolerance));
        CHECK(near(image(together.grad_y, shape, i), single.grad_y, tolerance));
    }
}
void data_ranges() {
    for (const Extents& shape : {kImages, kVolumes}) {
        what = std::to_string(shape.size()) + " axes";
        fusedssim_params params = kDefault;
        params.reduction = FUSEDSSIM_REDUCTION_PER_IMAGE;
        check_data_ranges<float>(params, shape, nullptr);
        check_data_ranges<double>(params, shape, nullptr);
        check_data_ranges<float>(params, shape, &kTwoLevels);
        params.objective = FUSEDSSIM_OBJECTIVE_LOSS;
        params.window_size = 13;  // other kernels
        check_data_ranges<float>(params, shape, nullptr);
        params.window_size = 1;
        check_data_ranges<float>(params, shape, nullptr);
        params.window_size = 7;
        params.reduction = FUSEDSSIM_REDUCTION_NONE;
        check_data_ranges<float>(params, shape, nullptr);
    }
    // What is no range: an error where it can be seen before anything is written; otherwise its image alone has no value.
    what = "no range";
    const auto x = random(kImages, 1), y = random(kImages, 2);
    fusedssim_params params = kDefault;
    params.reduction = FUSEDSSIM_REDUCTION_PER_IMAGE;
    for (const float bad : {0.0f, -1.0f, kNaN, kInfinity}) {
        const std::vector<float> ranges = {2, bad, 2};
        fusedssim_tensor t = tensor(ranges, {3});
        params.data_ranges = &t;
        const auto r = run(params, kImages, x, y);
        if (!on_cuda()) {
            CHECK(r.status == FUSEDSSIM_INVALID_ARGUMENT && is_untouched(r));
            CHECK(std::strstr(fusedssim_last_error(), "params.data_ranges[1] = ") != nullptr);
            t.shape[0] = 2;  // images 0 and 2
            t.stride[0] = 2;
            CHECK(run(params, {2, 2, 23, 37}, x, y).status == FUSEDSSIM_OK);
            continue;
        }
        CHECK(r.status == FUSEDSSIM_OK && std::isnan(r.out[1]));
        CHECK(std::isfinite(r.out[0]) && std::isfinite(r.out[2]));
    }
    const std::vector<float> ranges = {1, 2, 3, 4};
    const std::vector<double> doubles = {1, 2, 3};
    for (const fusedssim_tensor& t :
         {tensor(ranges, {2}), tensor(ranges, {3, 1}), tensor(doubles, {3}), tensor(std::vector<float>(), {3})}) {
        params.data_ranges = &t;
        const auto r = run(params, kImages, x, y);
        CHECK(r.status == (t.dtype == FUSEDSSIM_FLOAT64 ? FUSEDSSIM_INVALID_DTYPE : FUSEDSSIM_INVALID_ARGUMENT));
        CHECK(is_untouched(r) && std::strstr(fusedssim_last_error(), "params.data_ranges") != nullptr);
    }
}

// The taps of a Gaussian are numbers of float32 whose sum is exactly 1, and nearly those of the exact Gaussian.
void taps() {
    std::mt19937 bits{3};
    for (int i = 0; i < 20000; ++i) {
        const int radius = int(bits() % (fusedssim::kMaxRadius + 1));
        const double sigma = std::exp(-3 + 6 * (bits() / 4294967296.0));
        what = "radius " + std::to_string(radius) + ", sigma " + std::to_string(sigma);
        double exact[fusedssim::kMaxRadius + 1], rounded[fusedssim::kMaxRadius + 1];
        fusedssim::fill_gaussian(sigma, radius, exact);
        fusedssim::fill_gaussian(sigma, radius, rounded);
        fusedssim::round_to_float32(rounded, radius);
        std::int64_t sum = 0;  // in units of 2^-40
        for (int k = 0; k <= radius; ++k) {
            const double units = std::ldexp(rounded[k], 40);
            sum += (k ? 2 : 1) * std::int64_t(units);
            CHECK(double(float(rounded[k])) == rounded[k] && units == std::floor(units) && units >= 0);
            CHECK(std::abs(rounded[k] - exact[k]) < 1e-6 * exact[0]);
        }
        CHECK(sum == std::int64_t(1) << 40);
    }
    // With any rest, bright images of little contrast have a bias.
    const Extents shape = {1, 1, 256, 256};
    const auto x = random(shape, 1, 0.8, 0.9), y = random(shape, 2, 0.8, 0.9);
    const std::vector<double> exact_x(x.begin(), x.end()), exact_y(y.begin(), y.end());
    const struct {
        int size;
        double sigma;
    } windows[] = {{11, 1.5}, {11, 0.69}, {33, 0.69}, {33, 5}, {7, 1}, {13, 2}};
    for (const auto& window : windows) {
        if (on_cuda() && window.size != 11) continue;  // slow where it is simulated
        what = "window " + std::to_string(window.size) + ", sigma " + std::to_string(window.sigma);
        fusedssim_params params = kDefault;
        params.window_size = window.size;
        params.sigma = window.sigma;
        const double value = double(run(params, shape, x, y).out[0]),
                     exact = run(params, shape, exact_x, exact_y).out[0];
        if (!(std::abs(value - exact) < 1e-7)) std::fprintf(stderr, "%g off\n", value - exact);
        CHECK(std::abs(value - exact) < 1e-7);
    }
}

const struct {
    const char* name;
    void (*run)();
} kGroups[] = {{"data_ranges", data_ranges}, {"taps", taps}};

}  // namespace

int main(int argc, char** argv) {
    if (argc > 1) device = std::strcmp(argv[1], "cuda") == 0 ? FUSEDSSIM_CUDA : FUSEDSSIM_CPU;
    bool found = false;
    for (const auto& group : kGroups)
        if (argc < 3 || std::strcmp(argv[2], group.name) == 0) {
            group.run();
            found = true;
        }
    if (!found) std::fprintf(stderr, "values_test: no group %s\n", argv[2]);
    return failures != 0 || !found;
}
