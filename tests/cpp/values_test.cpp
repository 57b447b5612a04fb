// SPDX-License-Identifier: MIT
//
// Values that need no oracle: what two calls must have in common, to the bit or nearly. `values_test <device> <group>`
// runs one group of checks on "cpu" or "cuda"; tests/simulator runs them on its simulated device, too.
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <new>
#include <random>
#include <string>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#elif defined(_WIN32)
#define NOMINMAX
#include <windows.h>
#undef near  // macros from the time of 16 bits
#undef far
#endif

#include "fusedssim/fusedssim.h"
#include "gaussian.h"

namespace {

// How many allocations there is memory for, of the whole program; negative: for any number.
std::atomic<long> allocations_left{-1};
long allocations_of_call = -1;
int cpu_threads = 1;

#if !defined(_WIN32)  // where a DLL has operators of its own
void* allocate(std::size_t bytes, std::size_t alignment) {
    long left = allocations_left;
    while (left > 0 && !allocations_left.compare_exchange_weak(left, left - 1)) {
    }
    if (left == 0) throw std::bad_alloc();
    void* const memory = std::aligned_alloc(alignment, (bytes + alignment) / alignment * alignment);
    if (!memory) throw std::bad_alloc();
    return memory;
}

}  // namespace

void* operator new(std::size_t bytes) { return allocate(bytes, 16); }
void* operator new[](std::size_t bytes) { return allocate(bytes, 16); }
void* operator new(std::size_t bytes, std::align_val_t alignment) { return allocate(bytes, std::size_t(alignment)); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }

namespace {
#endif

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

bool is_zero(const std::vector<float>& v) {
    for (const float each : v)
        if (each != 0) return false;
    return true;
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
    exec.cpu_threads = cpu_threads;
    const Extents out_shape = shape_of_out(params, shape);
    Results<A> r{FUSEDSSIM_OK, std::vector<A>(count(out_shape), -123), std::vector<A>(x.size(), -123),
                 std::vector<A>(x.size(), -123)};
    const fusedssim_tensor in_x = tensor(x, shape), in_y = tensor(y, shape), out = tensor(r.out, out_shape),
                           grad_x = tensor(r.grad_x, shape), grad_y = tensor(r.grad_y, shape);
    std::size_t bytes = 0;
    r.status = ms ? fusedssim_ms_workspace_size(&params, ms, &exec, 3, &in_x, &in_y, &bytes)
                  : fusedssim_workspace_size(&params, &exec, FUSEDSSIM_OP_VALUE_AND_GRAD, 3, &in_x, &in_y, &bytes);
    if (r.status != FUSEDSSIM_OK) return r;
    std::vector<double> workspace(bytes / 16 * 2 + 2);
    std::memset(workspace.data(), 0xff, workspace.size() * sizeof(double));
    exec.workspace = workspace.data();
    exec.workspace_bytes = bytes;
    allocations_left = allocations_of_call;
    r.status = ms ? fusedssim_ms_value_and_grad(&params, ms, &exec, &in_x, &in_y, &out, &grad_x, &grad_y)
                  : fusedssim_value_and_grad(&params, &exec, &in_x, &in_y, &out, &grad_x, &grad_y);
    allocations_left = -1;
    return r;
}

// ---- The groups
// ------------------------------------------------------------------------------------------------------

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
    // What is no range: an error where it can be seen before anything is written; otherwise its image alone has no
    // value.
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
    // With any rest, bright images of little contrast have a bias: 1e-6 for the usual window, up to 9e-5 for others.
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
        const double exact = run(params, shape, exact_x, exact_y).out[0];
        // What is left is noise of float32.
        if (window.size == 11 && window.sigma == 1.5)
            CHECK(std::abs(double(run(params, shape, x, y).out[0]) - exact) < 2e-7);
        double rounded[fusedssim::kMaxRadius + 1];
        std::vector<double> all(std::size_t(window.size), 0);
        const int radius = window.size / 2;
        fusedssim::fill_gaussian(window.sigma, radius, rounded);
        fusedssim::round_to_float32(rounded, radius);
        for (int k = 0; k <= radius; ++k) all[std::size_t(radius + k)] = all[std::size_t(radius - k)] = rounded[k];
        params.taps = all.data();
        CHECK(std::abs(run(params, shape, exact_x, exact_y).out[0] - exact) < 2e-8);
    }
}

// MS-SSIM: what is no number stays none, and a level without a weight counts as 1.
void levels() {
    const Extents shape = {1, 1, 24, 28};
    const auto x = random(shape, 1), y = random(shape, 2);
    fusedssim_params params = kDefault;
    for (const float bad : {kNaN, kInfinity, -kInfinity}) {
        what = std::to_string(bad);
        auto holed = x;
        holed[100] = bad;
        for (const fusedssim_ms_params& ms : {kTwoLevels, fusedssim_ms_params{sizeof(fusedssim_ms_params), 1, {1}}}) {
            const auto r = run(params, shape, holed, y, &ms);
            CHECK(r.status == FUSEDSSIM_OK && std::isnan(r.out[0]) && std::isnan(r.grad_x[100]));
            CHECK(std::isnan(run(params, shape, y, holed, &ms).out[0]));
        }
    }
    what = "weight 0";
    std::vector<float> negative(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) negative[i] = 1 - x[i];  // the contrast's mean is below 0
    const fusedssim_ms_params none_first = {sizeof none_first, 2, {0, 1}}, none = {sizeof none, 2, {0, 0}},
                              first = {sizeof first, 2, {1, 0}}, single = {sizeof single, 1, {0}};
    const auto one = run(params, shape, x, negative, &none), zero = run(params, shape, x, negative, &first);
    CHECK(one.status == FUSEDSSIM_OK && one.out[0] == 1 && is_zero(one.grad_x));
    CHECK(zero.status == FUSEDSSIM_OK && zero.out[0] == 0 && is_zero(zero.grad_x));
    // A mean below 0 at a level without a weight hides nothing of the others.
    auto finer = x;  // negative at the first level, and the same as x at the second
    for (std::size_t i = 0; i < x.size(); ++i) finer[i] = x[i / 28 % 2 ? i - 28 : i];
    const auto other = run(params, shape, finer, y, &none_first);
    CHECK(other.status == FUSEDSSIM_OK && std::isfinite(other.out[0]) && std::isfinite(other.grad_x[0]));
    // 0^0: a mean of exactly 0.
    params.k1 = params.k2 = 0;
    const auto power = run(params, shape, std::vector<float>(x.size()), std::vector<float>(x.size(), 0.5f), &single);
    CHECK(power.status == FUSEDSSIM_OK && power.out[0] == 1 && is_zero(power.grad_x));
}

// What a mask excludes changes no bit, be it NaN, infinite or huge: in mode normalized everything under a mask of 0, in
// mode weight what no window sees that counts.
void check_holes(const fusedssim_params& given, const Extents& shape) {
    fusedssim_params params = given;
    // The last columns are excluded. In mode weight, windows that count see some of them.
    const bool is_weight = params.mask_mode == FUSEDSSIM_MASK_WEIGHT;
    const auto width = std::size_t(shape.back()), excluded = width / 2,
               seen = excluded + (is_weight ? std::size_t(params.window_size / 2) : 0);
    std::vector<float> mask(count(shape));
    for (std::size_t i = 0; i < mask.size(); ++i) mask[i] = i % width < excluded ? float(1 + i % 3) : 0.0f;
    const fusedssim_tensor t = tensor(mask, shape);
    params.mask = &t;
    auto x = random(shape, 1), y = random(shape, 2);
    for (std::size_t i = 0; i < x.size(); ++i)
        if (i % width >= seen) x[i] = y[i] = 0;
    const auto expected = run(params, shape, x, y);
    for (const float bad : {kNaN, kInfinity, 1e30f}) {
        auto holed_x = x, holed_y = y;
        for (std::size_t i = 0; i < x.size(); ++i)
            if (i % width >= seen) {
                holed_x[i] = bad;
                if (i % 2) holed_y[i] = -bad;
            }
        CHECK(same_bits(run(params, shape, holed_x, holed_y), expected));
    }
    const std::size_t inside = x.size() / 2 / width * width + 7;
    CHECK(expected.grad_x[inside] != 0);
    if (!is_weight) return;
    const std::size_t edge = inside - 7 + excluded;
    x[edge] = kNaN;  // a window that counts sees it
    const auto r = run(params, shape, x, y);
    CHECK(std::isnan(r.grad_x[edge]) && std::isnan(r.grad_x[edge - 1]));
    if (params.window_size == 11) CHECK(std::isfinite(r.grad_x[edge + 10]));
}
void holes() {
    for (const Extents& shape : {Extents{1, 2, 23, 60}, Extents{1, 1, 14, 13, 40}})
        for (const fusedssim_mask_mode mode : {FUSEDSSIM_MASK_WEIGHT, FUSEDSSIM_MASK_NORMALIZED})
            for (const fusedssim_padding padding : {FUSEDSSIM_PADDING_SAME, FUSEDSSIM_PADDING_VALID})
                for (const fusedssim_reduction reduction : {FUSEDSSIM_REDUCTION_MEAN, FUSEDSSIM_REDUCTION_NONE})
                    for (const fusedssim_objective objective : {FUSEDSSIM_OBJECTIVE_SSIM, FUSEDSSIM_OBJECTIVE_LOSS}) {
                        what = std::to_string(shape.size()) + " axes, mode " + std::to_string(mode) + ", padding " +
                               std::to_string(padding) + ", reduction " + std::to_string(reduction) + ", objective " +
                               std::to_string(objective);
                        fusedssim_params params = kDefault;
                        params.mask_mode = mode;
                        params.padding = padding;
                        params.reduction = reduction;
                        params.objective = objective;
                        if (padding == FUSEDSSIM_PADDING_VALID && reduction == FUSEDSSIM_REDUCTION_NONE)
                            params.lambda_dssim = 1;
                        check_holes(params, shape);
                        // Other kernels. Those of CUDA have taps of 0 around windows that are not as wide as they can
                        // be.
                        params.window_size = on_cuda() && mode == FUSEDSSIM_MASK_WEIGHT ? 33 : 13;
                        if (padding == FUSEDSSIM_PADDING_SAME && objective == FUSEDSSIM_OBJECTIVE_LOSS)
                            check_holes(params, shape);
                    }
}

// The mean of nothing is NaN, and so is its gradient.
void nothing() {
    for (const Extents& shape : {Extents{1, 1, 20, 30}, Extents{1, 1, 13, 12, 14}})
        for (const fusedssim_mask_mode mode : {FUSEDSSIM_MASK_WEIGHT, FUSEDSSIM_MASK_NORMALIZED}) {
            what = std::to_string(shape.size()) + " axes, mode " + std::to_string(mode);
            const auto x = random(shape, 1), y = random(shape, 2);
            const std::vector<float> mask(count(shape), 0);
            const fusedssim_tensor t = tensor(mask, shape);
            fusedssim_params params = kDefault;
            params.mask = &t;
            params.mask_mode = mode;
            const auto r = run(params, shape, x, y);
            CHECK(r.status == FUSEDSSIM_OK && std::isnan(r.out[0]));
            bool all = true;
            for (const auto* grad : {&r.grad_x, &r.grad_y})
                for (const float each : *grad) all = all && std::isnan(each);
            CHECK(all);
            params.reduction = FUSEDSSIM_REDUCTION_SUM;
            const auto sum = run(params, shape, x, y);
            CHECK(sum.status == FUSEDSSIM_OK && sum.out[0] == 0 && is_zero(sum.grad_x) && is_zero(sum.grad_y));
        }
}

// K = 0: 0 / 0 counts as 1, and nothing else changes.
void constants_of_zero() {
    for (const Extents& shape : {Extents{1, 1, 30, 40}, Extents{1, 1, 14, 13, 40}}) {
        what = std::to_string(shape.size()) + " axes";
        fusedssim_params params = kDefault;
        params.k1 = params.k2 = 0;
        const auto x = random(shape, 1), y = random(shape, 2);
        auto half = x;  // black on one side
        for (std::size_t i = 0; i < half.size(); ++i)
            if (i % 40 < 20) half[i] = 0;
        const std::vector<float> black(x.size(), 0), grey(x.size(), 0.7f);
        for (const double range : {1.0, 1e-6, 1e6}) {
            params.data_range = range;
            for (const auto& image : {black, grey, half, x}) {
                const auto r = run(params, shape, image, image);
                CHECK(r.status == FUSEDSSIM_OK && r.out[0] == 1 && is_zero(r.grad_x) && is_zero(r.grad_y));
            }
        }
        params.data_range = 1;
        const auto r = run(params, shape, half, y);
        CHECK(std::isfinite(r.out[0]));
        bool is_finite = true;
        for (const float each : r.grad_x) is_finite = is_finite && std::isfinite(each);
        CHECK(is_finite);
        const auto zero = run(params, shape, x, y);
        params.k1 = params.k2 = 1e-13;  // too small to count
        CHECK(same_bits(zero, run(params, shape, x, y)));
        const std::vector<double> x64(x.begin(), x.end()), y64(y.begin(), y.end()), black64(x.size(), 0);
        params.k1 = params.k2 = 0;
        CHECK(run(params, shape, black64, black64).out[0] == 1);
        const auto zero64 = run(params, shape, x64, y64);
        params.k1 = params.k2 = 1e-30;
        CHECK(same_bits(zero64, run(params, shape, x64, y64)));
    }
}

// Weights that are none: an error where they are read before anything is written; otherwise what is not positive is 0.
void bad_weights() {
    const Extents shape = {1, 1, 20, 30};
    const auto x = random(shape, 1), y = random(shape, 2);
    for (const fusedssim_mask_mode mode : {FUSEDSSIM_MASK_WEIGHT, FUSEDSSIM_MASK_NORMALIZED})
        for (const fusedssim_reduction reduction :
             {FUSEDSSIM_REDUCTION_MEAN, FUSEDSSIM_REDUCTION_SUM, FUSEDSSIM_REDUCTION_NONE})
            for (const float bad : {-1.0f, kNaN, kInfinity}) {
                what = "mode " + std::to_string(mode) + ", reduction " + std::to_string(reduction) + ", " +
                       std::to_string(bad);
                std::vector<float> mask(count(shape), 0.5f);
                const fusedssim_tensor t = tensor(mask, shape);
                fusedssim_params params = kDefault;
                params.mask = &t;
                params.mask_mode = mode;
                params.reduction = reduction;
                mask[77] = 0;
                const auto expected = run(params, shape, x, y);
                mask[77] = bad;
                const auto r = run(params, shape, x, y);
                if (!on_cuda()) {
                    CHECK(r.status == FUSEDSSIM_INVALID_ARGUMENT && is_untouched(r));
                    CHECK(std::strstr(fusedssim_last_error(), "params.mask") != nullptr);
                } else if (bad != kInfinity) {
                    CHECK(same_bits(r, expected));
                }
            }
}

// A data range whose square is beyond the arithmetic is refused, and what is just within gives what others give.
template <class A>
void check_extreme_ranges(double most, double least) {
    const Extents shape = {1, 1, 20, 30};
    auto x = random<A>(shape, 1), y = random<A>(shape, 2);
    fusedssim_params params = kDefault;
    const double expected = double(run(params, shape, x, y).out[0]);
    for (const double k : {0.01, 0.0}) {
        params.k1 = params.k2 = k;
        for (const double range : {4 * most, least / 4, 1e300}) {
            params.data_range = range;
            const auto r = run(params, shape, x, y);
            CHECK(r.status == FUSEDSSIM_INVALID_ARGUMENT && is_untouched(r));
            CHECK(std::strstr(fusedssim_last_error(), "params.data_range = ") != nullptr);
        }
    }
    params = kDefault;
    params.data_range = most;
    for (auto* image : {&x, &y})
        for (A& each : *image) each = A(double(each) * most);
    const auto r = run(params, shape, x, y);
    CHECK(r.status == FUSEDSSIM_OK && std::abs(double(r.out[0]) - expected) < 1e-5);
}
void extreme_ranges() {
    what = "float32";
    check_extreme_ranges<float>(2e18, 1e-19);
    what = "float64";
    check_extreme_ranges<double>(1e153, 1e-154);
}

// A call that runs out of memory has written nothing, whenever that happens.
void check_memory(const Extents& shape) {
    const auto x = random(shape, 1), y = random(shape, 2);
    const std::vector<float> mask(count(shape), 1);
    const fusedssim_tensor t = tensor(mask, shape);
    for (const fusedssim_ms_params* ms : {static_cast<const fusedssim_ms_params*>(nullptr), &kTwoLevels}) {
        fusedssim_params params = kDefault;
        if (!ms) params.mask = &t;
        int failed = 0;
        for (;; ++failed) {
            what = std::string(ms ? "MS-SSIM, " : "SSIM, ") + std::to_string(failed) + " allocations";
            allocations_of_call = failed;
            const auto r = run(params, shape, x, y, ms);
            allocations_of_call = -1;
            if (r.status == FUSEDSSIM_OK || failed > 1000) break;
            CHECK(r.status == FUSEDSSIM_OUT_OF_MEMORY && is_untouched(r));
        }
        CHECK(failed > 1 && failed < 1000);
    }
}
void memory() {
    if (on_cuda()) return;
    check_memory({1, 2, 24, 28});
    cpu_threads = 2;
    check_memory({1, 2, 200, 210});  // enough for two threads, at both levels
    cpu_threads = 1;
}

int default_threads() {
    fusedssim_info info{};
    info.struct_size = sizeof info;
    CHECK(fusedssim_get_info(&info) == FUSEDSSIM_OK);
    return info.cpu_threads;
}
// No more threads than OMP_NUM_THREADS, which is read once, and than there are cores for this process.
void threads() {
#if defined(_WIN32)
    _putenv_s("OMP_NUM_THREADS", "1,4");
#else
    setenv("OMP_NUM_THREADS", "1,4", 1);
#endif
    CHECK(default_threads() == 1);
}
void affinity() {
#if defined(__linux__)
    cpu_set_t all, one;
    if (sched_getaffinity(0, sizeof all, &all) != 0) return;
    CPU_ZERO(&one);
    int core = 0;
    while (!CPU_ISSET(core, &all)) ++core;
    CPU_SET(core, &one);
    if (sched_setaffinity(0, sizeof one, &one) != 0) return;
    CHECK(default_threads() == 1);
    sched_setaffinity(0, sizeof all, &all);
#elif defined(_WIN32)
    DWORD_PTR all = 0, system = 0;
    if (!GetProcessAffinityMask(GetCurrentProcess(), &all, &system)) return;
    if (!SetProcessAffinityMask(GetCurrentProcess(), all & (~all + 1))) return;
    CHECK(default_threads() == 1);
    SetProcessAffinityMask(GetCurrentProcess(), all);
#endif
}

const struct {
    const char* name;
    void (*run)();
} kGroups[] = {{"data_ranges", data_ranges}, {"taps", taps},
               {"levels", levels},           {"holes", holes},
               {"nothing", nothing},         {"constants_of_zero", constants_of_zero},
               {"bad_weights", bad_weights}, {"extreme_ranges", extreme_ranges},
               {"memory", memory},           {"threads", threads},
               {"affinity", affinity}};

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
