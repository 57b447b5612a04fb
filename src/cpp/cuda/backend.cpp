// SPDX-License-Identifier: MIT
//
// The launchers: which kernel, which grid, which parameters.
#include "cuda/backend.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <random>
#include <type_traits>

#include "core/arithmetic.h"
#include "core/dtype.h"
#include "cuda/device_code.h"
#include "cuda/driver.h"
#include "error.h"
#include "params.h"
#include "settings.h"

namespace fusedssim::cuda {

namespace {

// The multiprocessors that the planner assumes: those of an H200. A constant, so that sums, and the size of the workspace,
// do not depend on the device.
constexpr int kMultiprocessors = 132;

template <int N>
using Constant = std::integral_constant<int, N>;

// The partial maps of a volume (see SsimParams): elements from row to row, and bytes for so many gradients.
int partial_maps_pitch(const Problem& p) { return p.width + p.width % 2; }
std::size_t partial_maps_bytes(const Problem& p, int grads) {
    const std::int64_t positions = p.planes() * p.depth * p.height * partial_maps_pitch(p);
    return std::size_t(filtered_maps(grads)) * std::size_t(positions) * dtype_size(arithmetic_dtype(p.image_dtype));
}

// Whether the kernels for narrow windows serve: those for volumes step through rows and columns of both images at once, in
// 32 bits. The others read any memory, several times slower.
bool is_narrow(const Problem& p) {
    if (p.max_radius() > kRadiusBuckets[0]) return false;
    if (p.is_normalized && p.image_dtype == Dtype::float64) return false;  // the one kernel that there is for it
    if (!p.is_3d) return true;
    const double extent = double(p.x.h) * p.height + double(p.x.w) * p.width;
    return p.x.h == p.y.h && p.x.w == p.y.w && p.x.h >= 0 && p.x.w >= 0 && 8 * extent < 0xffffffff &&
           double(p.height) * double(partial_maps_pitch(p)) < 0xffffffff;
}

// Calls f with a value of the arithmetic's type, the radius bucket and the number of gradients, as constants.
template <class F>
auto with_constants(const Problem& p, bool narrow, int grads, F&& f) {
    const auto with_radius = [&](auto zero, auto radius) {
        return grads == 0   ? f(zero, radius, Constant<0>())
               : grads == 1 ? f(zero, radius, Constant<1>())
                            : f(zero, radius, Constant<2>());
    };
    const auto with_type = [&](auto zero) {
        return narrow ? with_radius(zero, Constant<kRadiusBuckets[0]>())
                      : with_radius(zero, Constant<kRadiusBuckets[1]>());
    };
    return p.image_dtype == Dtype::float64 ? with_type(double()) : with_type(float());
}

Element element_of(Dtype dtype) {
    switch (dtype) {
        case Dtype::float32: return Element::f32;
        case Dtype::float64: return Element::f64;
        case Dtype::float16: return Element::f16;
        case Dtype::bfloat16: return Element::bf16;
        case Dtype::boolean: break;
    }
    unexpected_dtype(dtype);
}

// How the work is cut into blocks. ssim3d: planes into tiles, and those into chunks of slices.
struct Blocks {
    int tiles_x, tiles_y, chunk, chunks;
    Partition partition;  // ssim2d
    std::int64_t total;
    std::int64_t sums;  // that are written, of each kind
};

// Blocks walk along an axis of `length`, each through a chunk, and pay for `halo` more steps. Fewer chunks waste less on
// halos, more fill the device better: this takes the number that finishes first if `slots` blocks run at a time.
Blocks cut_volume(std::int64_t planes, int tiles_x, int tiles_y, int length, int halo, int slots) {
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
    Blocks b{};
    b.tiles_x = tiles_x;
    b.tiles_y = tiles_y;
    b.chunk = int(best_chunk);
    b.chunks = int(ceil_div(length, best_chunk));
    b.total = b.sums = columns * b.chunks;
    return b;
}

template <class S>
Blocks cut_images(const Problem& p) {
    constexpr int kShortest = 8;
    Blocks b{};
    Partition& part = b.partition;
    part.planes = p.planes();
    part.rows = p.height;
    part.strips = int(ceil_div(p.width, S::out));
    const std::int64_t rows = part.planes * part.strips * part.rows;
    part.blocks = std::clamp<std::int64_t>(rows / kShortest, 1, kMultiprocessors * S::min_blocks);
    part.share = rows / part.blocks;
    part.extra = rows % part.blocks;
    b.total = part.blocks;
    b.sums = part.sums();
    return b;
}

Blocks cut_blocks(const Problem& p, bool narrow, int grads) {
    return with_constants(p, narrow, grads, [&](auto zero, auto radius, auto gradients) {
        using A = decltype(zero);
        if (p.is_3d) {
            using B = Block3d<A, radius>;
            return cut_volume(p.planes(), int(ceil_div(p.width, B::tx)), int(ceil_div(p.height, B::ty)), p.depth,
                              2 * radius, kMultiprocessors * B::min_blocks);
        }
        return p.is_normalized ? cut_images<Strip2d<A, radius, gradients, true>>(p)
                               : cut_images<Strip2d<A, radius, gradients, false>>(p);
    });
}

// The gradients that the kernels are compiled for: maps that were saved for both serve one as well.
int kernel_grads(const Problem& p) { return p.saved_grads ? p.saved_grads : p.grads(); }

// Parts of a plane of a mask, which a block each sums.
std::int64_t mask_parts(const Problem& p) {
    const std::int64_t rows = std::int64_t(p.depth) * p.height;
    return std::min<std::int64_t>(ceil_div(rows, 8), std::max<std::int64_t>(1, 8 * kMultiprocessors / p.planes()));
}

// The workspace: block sums, tags of blocks, sums of the mask, partial maps.
struct Workspace {
    std::size_t sums, tags, parts, mask_sums, maps;  // in bytes from its beginning
    std::size_t total;
};

Workspace plan_workspace(const Problem& p) {
    const int grads = kernel_grads(p);
    // Whoever asks for the size does not know all strides yet: it is enough for either kind of kernel.
    const Blocks wide = cut_blocks(p, false, grads);
    const Blocks narrow = p.max_radius() <= kRadiusBuckets[0] ? cut_blocks(p, true, grads) : wide;
    Workspace w{};
    const auto take = [&](std::int64_t bytes) {
        const std::size_t at = w.total;
        w.total += std::size_t(round_up(bytes, 16));
        return at;
    };
    constexpr std::int64_t kDouble = sizeof(double), kTag = sizeof(*Completion::tags);
    if (p.value.data) {
        w.sums = take(std::max(wide.sums, narrow.sums) * (p.reduction.l1_weight != 0 ? 2 : 1) * kDouble);
        w.tags = take(std::min<std::int64_t>(std::max(wide.total, narrow.total), kMostSums) * kTag);
    }
    if (p.needs_mask_sums()) {
        w.parts = take(2 * p.planes() * mask_parts(p) * kDouble);
        w.mask_sums = take(2 * p.groups * kDouble);
    }
    if (p.is_3d && p.grads() && !p.saved) w.maps = take(std::int64_t(partial_maps_bytes(p, grads)));
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

ByteView in_bytes(const View& v, std::size_t size) {
    const auto bytes = (long long)(size);
    return {v.data, bytes * v.n, bytes * v.c, bytes * v.d, bytes * v.h, bytes * v.w};
}
ByteView mask_in_bytes(const Problem& p) {
    return in_bytes(p.mask, p.mask_is_bool ? 1 : dtype_size(arithmetic_dtype(p.image_dtype)));
}

// Whether `count` adjacent elements of a row, from a column that is a multiple of it, are aligned to be accessed as one.
bool is_packed(const View& v, std::size_t size, int count) {
    const std::size_t alignment = std::min<std::size_t>(std::size_t(count) * size, 16);
    return v.data && v.w == 1 && reinterpret_cast<std::uintptr_t>(v.data) % alignment == 0 && v.n % count == 0 &&
           v.c % count == 0 && v.d % count == 0 && v.h % count == 0;
}

template <class A>
SsimParams<A> make_ssim_params(const Problem& p, const Blocks& blocks) {
    SsimParams<A> k{};
    const std::size_t size = dtype_size(p.image_dtype);
    k.x = in_bytes(p.x, size);
    k.y = in_bytes(p.y, size);
    k.map = in_bytes(p.map, sizeof(A));
    k.grad_out = in_bytes(p.grad_out, sizeof(A));
    k.grad_x = in_bytes(p.grad_x, dtype_size(p.grad_dtype));
    k.grad_y = in_bytes(p.grad_y, dtype_size(p.grad_dtype));
    k.mask = mask_in_bytes(p);
    k.coarse_x = in_bytes(p.coarse_x, sizeof(A));
    k.coarse_y = in_bytes(p.coarse_y, sizeof(A));
    k.groups = p.groups;
    k.planes_per_group = p.planes_per_group;
    k.blocks = blocks.total;
    k.sums_stride = blocks.sums;
    k.partition = blocks.partition;
    k.channels = int(p.channels);
    k.depth = p.depth;
    k.height = p.height;
    k.width = p.width;
    k.crop = p.crop(Axis::x);
    k.chunk = blocks.chunk;
    k.chunks = blocks.chunks;
    k.tiles_y = blocks.tiles_y;
    k.tiles_x = blocks.tiles_x;
    k.upstream = p.upstream;
    k.dtype = int(p.image_dtype);
    k.mask_is_bool = p.mask_is_bool;
    k.is_normalized = p.is_normalized;
    k.is_loss = p.reduction.is_loss;
    k.has_l1 = p.reduction.l1_weight != 0;
    k.packed_map = p.crop(Axis::x) % 4 == 0 && is_packed(p.map, sizeof(A), 4);
    const auto is_packed_or_absent = [&](const View& v) { return !v.data || is_packed(v, size, p.is_3d ? 2 : 4); };
    k.packed_grads = is_packed_or_absent(p.x) && is_packed_or_absent(p.y) && is_packed_or_absent(p.grad_x) &&
                     is_packed_or_absent(p.grad_y);
    k.packed_images = p.width % 2 == 0 && is_packed(p.x, size, 2) && is_packed(p.y, size, 2);
    k.scale = A(p.ssim_factor() * kGradientFactor);
    k.l1_scale = A(p.reduction.l1_weight != 0 ? p.l1_factor() : 0);
    k.coarse_scale = A(p.coarse_factor());
    k.ssim_weight = A(p.reduction.ssim_weight);
    k.l1_weight = A(p.reduction.l1_weight);
    k.c1x2 = A(p.c1x2);
    k.c2x2 = A(p.c2x2);
    for (int i = 0; i <= p.radius(Axis::x); ++i) k.taps[i] = A(p.taps(Axis::x)[i]);
    return k;
}

// Groups are planes, or images, or one: only planes have a channel.
template <class P>
int group_channels(const P& p) {
    return p.planes_per_group == 1 ? int(p.channels) : 1;
}

ReduceParams make_reduce_params(const Problem& p, const double* sums, const double* mask_sums, const Blocks& blocks) {
    ReduceParams k{};
    k.sums = sums;
    k.mask_sums = mask_sums;
    k.sums_stride = blocks.sums;
    k.partition = blocks.partition;
    if (p.is_3d)
        k.sums_per_group = blocks.total / p.groups;
    else if (p.groups == 1)
        k.sums_per_group = blocks.partition.first_sum(p.planes());
    k.groups = p.groups;
    k.planes_per_group = p.planes_per_group;
    k.map_elements = p.map_elements();
    k.image_elements = p.image_elements();
    k.reduction = p.reduction;
    k.out = in_bytes(p.value, dtype_size(arithmetic_dtype(p.image_dtype)));
    k.channels = group_channels(p);
    return k;
}

MaskParams make_mask_params(const Problem& p, double* parts_sums, double* mask_sums) {
    MaskParams k{};
    k.mask = mask_in_bytes(p);
    k.mask_is_bool = p.mask_is_bool;
    k.channels = int(p.channels);
    k.depth = p.depth;
    k.height = p.height;
    k.width = p.width;
    k.crop = p.crop(Axis::x);
    k.is_3d = p.is_3d;
    k.parts = int(mask_parts(p));
    k.planes = p.planes();
    k.groups = p.groups;
    k.parts_sums = parts_sums;
    k.mask_sums = mask_sums;
    return k;
}

// Whether the elements of a gradient, which do not overlap, leave no gaps.
bool is_dense(const ScaleProblem& p) {
    const View& v = p.grad;
    if (v.n < 0 || v.c < 0 || v.d < 0 || v.h < 0 || v.w < 0) return false;
    const double last = double(p.images - 1) * v.n + double(p.channels - 1) * v.c + double(p.depth - 1) * v.d +
                        double(p.height - 1) * v.h + double(p.width - 1) * v.w;
    return last + 1 == double(p.images * p.channels) * double(p.depth * p.height * p.width);
}

// Different for each launch, unlike what memory may hold, and, being odd, not 0.
unsigned long long launch_number() {
    static std::atomic<unsigned long long> next = [] {
        std::random_device random;
        return (unsigned long long)(random()) << 32 | random() | 1;
    }();
    return next.fetch_add(2, std::memory_order_relaxed);
}

unsigned few_blocks(std::int64_t wanted) { return unsigned(std::min<std::int64_t>(wanted, 65536)); }

std::size_t workspace_bytes(const Problem& p) { return plan_workspace(p).total; }

// The gradient of an image is made in one pass, and computing again is cheaper than memory.
std::size_t saved_bytes(const Problem& p, int grads) { return p.is_3d ? partial_maps_bytes(p, grads) : 0; }

void run(const Problem& p, const fusedssim_exec& exec) {
    const Workspace workspace = plan_workspace(p);
    require_workspace(exec, workspace.total);
    const Driver& driver = require_driver();
    const ContextScope context(driver, exec.device_id);
    auto* const memory = static_cast<unsigned char*>(exec.workspace);
    const auto doubles = [&](bool wanted, std::size_t at) {
        return wanted ? reinterpret_cast<double*>(memory + at) : nullptr;
    };
    double* const sums = doubles(p.value.data, workspace.sums);
    double* const mask_sums = doubles(p.needs_mask_sums(), workspace.mask_sums);
    const int grads = kernel_grads(p);
    const bool narrow = is_narrow(p);
    const Blocks blocks = cut_blocks(p, narrow, grads);

    // Whatever can fail comes first: kernels are found before any is launched.
    const Element arithmetic = element_of(arithmetic_dtype(p.image_dtype));
    const auto find = [&](Family family, Element element, int radius = 0, int gradients = 0) {
        return find_kernel(driver, exec.device_id, family, element, radius, gradients);
    };
    const bool is_completed = sums && p.groups == 1 && blocks.sums <= kMostSums &&
                              with_constants(p, narrow, grads, [&](auto zero, auto radius, auto) {
                                  return has_completion<decltype(zero)>(radius, p.is_normalized);
                              });
    const CUfunction reduce = sums && !is_completed ? find(Family::reduce_sums, arithmetic) : nullptr;
    const CUfunction sum_mask = mask_sums ? find(Family::sum_mask, arithmetic) : nullptr;
    const CUfunction reduce_mask = mask_sums ? find(Family::reduce_mask, Element::f64) : nullptr;
    const auto launch_mask_sums = [&] {
        if (!mask_sums) return;
        const MaskParams k = make_mask_params(p, doubles(true, workspace.parts), mask_sums);
        launch(driver, exec, sum_mask, few_blocks(k.planes * k.parts), kThreadsReduce, k);
        launch(driver, exec, reduce_mask, few_blocks(2 * k.groups), kThreadsReduce, k);
    };
    with_constants(p, narrow, grads, [&](auto zero, auto radius, auto gradients) {
        using A = decltype(zero);
        const auto element_for = [&](bool is_normalized) {
            const bool has_own = radius == kRadiusBuckets[0] && !is_normalized;
            return has_own || p.image_dtype == Dtype::float64 ? element_of(p.image_dtype) : Element::any;
        };
        const auto kernel = [&](Family family, bool is_normalized) {
            return find(family, element_for(is_normalized), radius, gradients);
        };
        SsimParams<A> k = make_ssim_params<A>(p, blocks);
        if (element_for(p.is_normalized) == Element::any)
            k.packed_grads = k.packed_images = 0;  // it reads one element at a time
        k.sums = sums;
        k.mask_sums = p.reduction.is_mean ? mask_sums : nullptr;
        if (is_completed)
            k.completion = {launch_number(), reinterpret_cast<unsigned long long*>(memory + workspace.tags),
                            make_reduce_params(p, sums, mask_sums, blocks)};
        if (p.is_3d) {
            using B = Block3d<A, radius>;
            // A backward with saved maps needs no forward: its maps are there.
            const bool has_forward = !p.saved || !p.grads(), has_backward = p.grads() != 0;
            const Family family = p.is_normalized ? Family::ssim3d_forward_normalized : Family::ssim3d_forward;
            const CUfunction forward = has_forward ? kernel(family, p.is_normalized) : nullptr;
            const CUfunction backward = has_backward ? kernel(Family::ssim3d_backward, false) : nullptr;
            const std::int64_t row = partial_maps_pitch(p), slice = row * p.height, volume = slice * p.depth;
            k.maps = {p.saved ? p.saved : memory + workspace.maps, p.channels * volume, volume, slice, row, 1};
            k.maps_stride = p.planes() * volume;
            launch_mask_sums();
            if (has_forward) launch(driver, exec, forward, blocks.total, B::threads, k);
            if (has_backward) launch(driver, exec, backward, blocks.total, B::threads, k);
        } else {
            const CUfunction ssim2d =
                kernel(p.is_normalized ? Family::ssim2d_normalized : Family::ssim2d, p.is_normalized);
            if (p.grads() && p.map.data) {
                // The gradient's kernel has no registers for the map: the forward kernel writes it.
                Problem map_only = p;
                map_only.grad_x.data = map_only.grad_y.data = nullptr;
                run(map_only, exec);
            }
            launch_mask_sums();
            const int threads = p.is_normalized ? Strip2d<A, radius, gradients, true>::threads
                                                : Strip2d<A, radius, gradients, false>::threads;
            launch(driver, exec, ssim2d, blocks.total, threads, k);
        }
    });
    if (reduce)
        launch(driver, exec, reduce, few_blocks(p.groups), kThreadsReduce,
               make_reduce_params(p, sums, mask_sums, blocks));
}

void scale(const ScaleProblem& p, const fusedssim_exec& exec) {
    const Driver& driver = require_driver();
    const ContextScope context(driver, exec.device_id);
    ScaleParams k{};
    k.scale = in_bytes(p.scale, dtype_size(p.scale_dtype));
    k.grad = in_bytes(p.grad, dtype_size(p.grad_dtype));
    k.rows = p.images * p.channels * p.depth * p.height;
    k.channels = int(p.channels);
    k.depth = int(p.depth);
    k.height = int(p.height);
    k.width = int(p.width);
    k.scale_is_f64 = p.scale_dtype == Dtype::float64;
    k.factor = p.factor;
    const std::int64_t elements = k.rows * k.width;
    const bool has_one_scale = p.scale.n == 0 && p.scale.c == 0;
    if (has_one_scale && is_dense(p) && reinterpret_cast<std::uintptr_t>(p.grad.data) % 16 == 0) k.flat = elements;
    const CUfunction kernel = find_kernel(driver, exec.device_id, Family::scale, element_of(p.grad_dtype));
    // Few blocks that take many rows: where nothing is to be done, little is launched.
    const std::int64_t wanted = k.flat ? ceil_div(elements, 4 * kThreadsReduce) : k.rows;
    launch(driver, exec, kernel, std::min<std::int64_t>(wanted, 8 * kMultiprocessors), kThreadsReduce, k);
}

void pool(const PoolProblem& p, const fusedssim_exec& exec) {
    const Driver& driver = require_driver();
    const ContextScope context(driver, exec.device_id);
    PoolParams k{};
    k.in = in_bytes(p.in, dtype_size(p.image_dtype));
    k.out = in_bytes(p.out, dtype_size(arithmetic_dtype(p.image_dtype)));
    k.channels = int(p.channels);
    k.depth = p.depth;
    k.height = p.height;
    k.width = p.width;
    k.is_3d = p.is_3d;
    k.out_depth = p.is_3d ? pooled_size(p.depth) : 1;
    k.out_height = pooled_size(p.height);
    k.out_width = pooled_size(p.width);
    k.elements = p.images * p.channels * k.out_depth * k.out_height * k.out_width;
    const CUfunction kernel = find_kernel(driver, exec.device_id, Family::pool, element_of(p.image_dtype));
    launch(driver, exec, kernel, std::min<std::int64_t>(ceil_div(k.elements, kThreadsReduce), 1 << 20), kThreadsReduce,
           k);
}

void combine(const CombineProblem& p, const fusedssim_exec& exec) {
    const Driver& driver = require_driver();
    const ContextScope context(driver, exec.device_id);
    CombineParams k{};
    k.means = p.means;
    k.upstream = p.upstream;
    k.out = in_bytes(p.value, dtype_size(p.arithmetic));
    k.planes = p.images * p.channels;
    k.groups = p.groups;
    k.planes_per_group = p.planes_per_group;
    k.channels = group_channels(p);
    k.levels = p.levels;
    k.is_mean = p.is_mean;
    std::copy_n(p.weights, p.levels, k.weights);
    const CUfunction kernel = find_kernel(driver, exec.device_id, Family::combine, element_of(p.arithmetic));
    launch(driver, exec, kernel, few_blocks(k.groups), kThreadsReduce, k);
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

}  // namespace

constexpr bool kUsesWorkspace = true;
const Backend backend = {kUsesWorkspace, run, scale, pool, combine, workspace_bytes, saved_bytes, fill_info};

void fill_device_info(int device_id, fusedssim_cuda_device_info& info) {
    const Driver& driver = require_driver();
    if (device_id < 0 || device_id >= driver.device_count)
        fail(FUSEDSSIM_INVALID_ARGUMENT, "{device_id} = %d, expected 0 to %d", device_id, driver.device_count - 1);
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
