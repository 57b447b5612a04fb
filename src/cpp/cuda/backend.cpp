// SPDX-License-Identifier: MIT
//
// The launchers: which kernel, which grid, which parameters.
#include "cuda/backend.h"

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "core/dtype.h"
#include "cuda/device_code.h"
#include "cuda/driver.h"
#include "error.h"
#include "params.h"

namespace fusedssim::cuda {

static_assert(int(kFloat32) == FUSEDSSIM_FLOAT32 && int(kFloat64) == FUSEDSSIM_FLOAT64 &&
              int(kFloat16) == FUSEDSSIM_FLOAT16 && int(kBfloat16) == FUSEDSSIM_BFLOAT16);

namespace {

// The multiprocessors that the planner assumes: those of an H200. A constant, so that sums, and the size of the workspace,
// do not depend on the device.
constexpr int kMultiprocessors = 132;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }
std::int64_t round_up(std::int64_t a, std::int64_t b) { return ceil_div(a, b) * b; }

template <int N>
using Constant = std::integral_constant<int, N>;

// Calls f with a value of the arithmetic's type, the radius bucket and the number of gradients, as constants.
template <class F>
auto with_constants(const Problem& p, int grads, F&& f) {
    const auto with_radius = [&](auto zero, auto radius) {
        return grads == 0   ? f(zero, radius, Constant<0>())
               : grads == 1 ? f(zero, radius, Constant<1>())
                            : f(zero, radius, Constant<2>());
    };
    const auto with_type = [&](auto zero) {
        return p.radius <= kRadiusBuckets[0] ? with_radius(zero, Constant<kRadiusBuckets[0]>())
                                             : with_radius(zero, Constant<kRadiusBuckets[1]>());
    };
    return p.dtype == FUSEDSSIM_FLOAT64 ? with_type(double()) : with_type(float());
}

Element element_of(fusedssim_dtype dtype) {
    switch (dtype) {
        case FUSEDSSIM_FLOAT64: return Element::f64;
        case FUSEDSSIM_FLOAT16: return Element::f16;
        case FUSEDSSIM_BFLOAT16: return Element::bf16;
        default: return Element::f32;
    }
}

// How a plane is cut into blocks.
struct Blocks {
    int tiles_x, tiles_y, chunk, chunks;
    std::int64_t total;
};

// Blocks walk along an axis of `length`, each through a chunk, and pay for `halo` more steps. Fewer chunks waste less on
// halos, more fill the device better: this takes the number that finishes first if `slots` blocks run at a time.
Blocks cut(std::int64_t planes, int tiles_x, int tiles_y, int length, int halo, int slots) {
    constexpr int kShortest = 8, kMost = 512;
    const std::int64_t columns = planes * tiles_x * tiles_y;
    std::int64_t best_chunk = length, best_cost = INT64_MAX;
    const int most = int(std::min<std::int64_t>(std::max(1, length / kShortest), kMost));
    for (int chunks = 1; chunks <= most; ++chunks) {
        const std::int64_t chunk = ceil_div(length, chunks);
        const std::int64_t cost = ceil_div(columns * ceil_div(length, chunk), slots) * (chunk + halo);
        if (cost < best_cost) {
            best_cost = cost;
            best_chunk = chunk;
        }
        if (columns * chunks > 16 * slots) break;  // the device is full, and will stay so
    }
    Blocks b{tiles_x, tiles_y, int(best_chunk), int(ceil_div(length, best_chunk)), 0};
    b.total = columns * b.chunks;
    return b;
}

Blocks cut_blocks(const Problem& p, int grads) {
    return with_constants(p, grads, [&](auto zero, auto radius, auto gradients) {
        using A = decltype(zero);
        if (p.is_3d) {
            using B = Block3d<A, radius>;
            return cut(p.planes(), int(ceil_div(p.width, B::tx)), int(ceil_div(p.height, B::ty)), p.depth, 2 * radius,
                       kMultiprocessors * B::min_blocks);
        }
        using S = Strip2d<A, radius, gradients>;
        return cut(p.planes(), int(ceil_div(p.width, S::out)), 1, p.height, 2 * S::halo,
                   kMultiprocessors * S::min_blocks);
    });
}

// The gradients that the kernels are compiled for: maps that were saved for both serve one as well.
int kernel_grads(const Problem& p) { return p.saved_grads ? p.saved_grads : p.grads(); }

// The workspace: block sums, then partial maps.
struct Workspace {
    std::size_t sums_bytes, total_bytes;
};

Workspace plan_workspace(const Problem& p) {
    const int grads = kernel_grads(p);
    const Blocks blocks = cut_blocks(p, grads);
    Workspace w{};
    if (p.value.data) w.sums_bytes = std::size_t(round_up(blocks.total * std::int64_t(sizeof(double)), 16));
    w.total_bytes = w.sums_bytes;
    if (p.is_3d && p.grads() && !p.saved)
        w.total_bytes += std::size_t(filtered_maps(grads)) * std::size_t(p.planes()) * std::size_t(p.volume()) *
                         dtype_size(arithmetic_dtype(p.dtype));
    return w;
}

// Enqueues a kernel; blocks beyond what one axis of a grid holds go on along the second.
template <class Params>
void launch(const Driver& driver, const fusedssim_exec& exec, CUfunction kernel, std::int64_t blocks, int threads,
            Params params) {
    constexpr std::int64_t kMostX = 0x7fffffff;
    const std::int64_t y = ceil_div(blocks, kMostX), x = ceil_div(blocks, y);
    void* arguments[] = {&params};
    check(driver,
          driver.cuLaunchKernel(kernel, unsigned(x), unsigned(y), 1, unsigned(threads), 1, 1, 0,
                                static_cast<CUstream>(exec.stream), arguments, nullptr),
          "cuLaunchKernel");
}

template <class A>
SsimParams<A> make_ssim_params(const Problem& p, const Blocks& blocks) {
    SsimParams<A> k{};
    k.x = p.x;
    k.y = p.y;
    k.map = p.map;
    k.grad_out = p.grad_out;
    k.grad_x = p.grad_x;
    k.grad_y = p.grad_y;
    k.planes = p.planes();
    k.blocks = blocks.total;
    k.channels = int(p.channels);
    k.depth = p.depth;
    k.height = p.height;
    k.width = p.width;
    k.crop = p.crop;
    k.chunk = blocks.chunk;
    k.chunks = blocks.chunks;
    k.tiles_y = blocks.tiles_y;
    k.tiles_x = blocks.tiles_x;
    k.upstream = p.upstream;
    k.dtype = p.dtype;
    k.scale = A(p.grad_factor * kGradientFactor);
    k.c1x2 = A(p.c1x2);
    k.c2x2 = A(p.c2x2);
    for (int i = 0; i <= p.radius; ++i) k.taps[i] = A(p.taps[i]);
    return k;
}

ReduceParams make_reduce_params(const Problem& p, const double* sums, std::int64_t blocks) {
    ReduceParams k{};
    k.sums = sums;
    k.groups = p.groups;
    k.blocks_per_group = blocks / p.groups;
    k.out = p.value;
    // Groups are planes, or images, or one: only planes have a channel.
    k.channels = p.planes_per_group == 1 ? int(p.channels) : 1;
    k.base = p.value_base();
    k.divisor = p.value_divisor();
    return k;
}

}  // namespace

std::size_t workspace_bytes(const Problem& p) { return plan_workspace(p).total_bytes; }

void run(const Problem& p, const fusedssim_exec& exec) {
    const Workspace workspace = plan_workspace(p);
    require_workspace(exec, workspace.total_bytes);
    const Driver& driver = require_driver();
    const ContextScope context(driver, exec.device_id);
    auto* const memory = static_cast<unsigned char*>(exec.workspace);
    auto* const sums = p.value.data ? reinterpret_cast<double*>(memory) : nullptr;
    const int grads = kernel_grads(p);
    const Blocks blocks = cut_blocks(p, grads);

    // Whatever can fail comes first: kernels are found before any is launched.
    const fusedssim_dtype out_dtype = arithmetic_dtype(p.dtype);
    const CUfunction reduce =
        sums ? find_kernel(driver, exec.device_id, Family::reduce_sums, element_of(out_dtype), 0, 0) : nullptr;
    with_constants(p, grads, [&](auto zero, auto radius, auto gradients) {
        using A = decltype(zero);
        const auto kernel = [&](Family family) {
            Element element = element_of(p.dtype);
            if (radius != kRadiusBuckets[0] && element != Element::f64) element = Element::any;
            return find_kernel(driver, exec.device_id, family, element, radius, gradients);
        };
        SsimParams<A> k = make_ssim_params<A>(p, blocks);
        k.sums = sums;
        if (p.is_3d) {
            using B = Block3d<A, radius>;
            // A backward with saved maps needs no forward: its maps are there.
            const bool has_forward = !p.saved || !p.grads(), has_backward = p.grads() != 0;
            const CUfunction forward = has_forward ? kernel(Family::ssim3d_forward) : nullptr;
            const CUfunction backward = has_backward ? kernel(Family::ssim3d_backward) : nullptr;
            const std::int64_t row = p.width, slice = row * p.height;
            k.maps = {
                p.saved ? p.saved : memory + workspace.sums_bytes, p.channels * p.volume(), p.volume(), slice, row, 1};
            k.maps_stride = p.planes() * p.volume();
            if (has_forward) launch(driver, exec, forward, blocks.total, B::threads, k);
            if (has_backward) launch(driver, exec, backward, blocks.total, B::threads, k);
        } else {
            const CUfunction ssim2d = kernel(Family::ssim2d);
            if (p.grads() && p.map.data) {
                // The gradient's kernel has no registers for the map: the forward kernel writes it.
                Problem map_only = p;
                map_only.grad_x.data = map_only.grad_y.data = nullptr;
                run(map_only, exec);
            }
            launch(driver, exec, ssim2d, blocks.total, Strip2d<A, radius, gradients>::threads, k);
        }
    });
    if (sums)
        launch(driver, exec, reduce, std::min<std::int64_t>(p.groups, 65536), kThreadsReduce,
               make_reduce_params(p, sums, blocks.total));
}

void scale(const ScaleProblem& p, const fusedssim_exec& exec) {
    const Driver& driver = require_driver();
    const ContextScope context(driver, exec.device_id);
    ScaleParams k{};
    k.scale = p.scale;
    k.grad = p.grad;
    k.rows = p.images * p.channels * p.depth * p.height;
    k.channels = int(p.channels);
    k.depth = int(p.depth);
    k.height = int(p.height);
    k.width = int(p.width);
    k.scale_is_f64 = p.scale_dtype == FUSEDSSIM_FLOAT64;
    k.factor = p.factor;
    const CUfunction kernel = find_kernel(driver, exec.device_id, Family::scale, element_of(p.dtype), 0, 0);
    // Few blocks that take many rows: where nothing is to be done, little is launched.
    launch(driver, exec, kernel, std::min<std::int64_t>(k.rows, 16 * kMultiprocessors), kThreadsReduce, k);
}

void fill_info(fusedssim_info& info) {
    const Driver& driver = find_driver();
    info.cuda_built = 1;
    info.cuda_architectures = architectures();
    info.cuda_compiler = compiler();
    info.cuda_problem = driver.problem;
    info.cuda_driver_version = driver.version;
    info.cuda_device_count = driver.device_count;
}

void fill_device_info(int device_id, fusedssim_cuda_device_info& info) {
    const Driver& driver = require_driver();
    if (device_id < 0 || device_id >= driver.device_count)
        fail(FUSEDSSIM_INVALID_ARGUMENT, "device_id = %d, expected 0 to %d", device_id, driver.device_count - 1);
    CUdevice device;
    std::size_t memory = 0;
    check(driver, driver.cuDeviceGet(&device, device_id), "cuDeviceGet");
    check(driver, driver.cuDeviceGetName(info.name, sizeof info.name, device), "cuDeviceGetName");
    check(driver, driver.cuDeviceTotalMem(&memory, device), "cuDeviceTotalMem");
    check(driver, driver.cuDeviceGetAttribute(&info.multiprocessors, kMultiprocessorCount, device),
          "cuDeviceGetAttribute");
    info.memory_bytes = memory;
    info.compute_capability = compute_capability(driver, device_id);
    info.usable = has_image(info.compute_capability);
}

}  // namespace fusedssim::cuda
