// SPDX-License-Identifier: MIT
//
// The launchers: the kernels of a call, one after the other.
#include "cuda/backend.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <random>
#include <vector>

#include "cuda/axes.h"
#include "cuda/device_code.h"
#include "cuda/driver.h"
#include "cuda/kernel_list.h"
#include "cuda/make_params.h"
#include "cuda/plan.h"
#include "error.h"
#include "settings.h"

namespace fusedssim::cuda {

namespace {

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

// A number of its own for each launch. The first one is random: memory hardly holds it already. All are odd, so none is
// 0.
unsigned long long launch_number() {
    static std::atomic<unsigned long long> next = [] {
        std::random_device random;
        return (unsigned long long)(random()) << 32 | random() | 1;
    }();
    return next.fetch_add(2, std::memory_order_relaxed);
}

unsigned few_blocks(std::int64_t wanted) { return unsigned(std::min<std::int64_t>(wanted, 65536)); }

std::size_t workspace_bytes(const Problem& p) { return plan_workspace(with_axes_by_stride(p)).total; }

// Gradients of images are made with the value: nothing is saved. Volumes save their partial maps, unless these are
// large.
std::size_t saved_bytes(const Problem& p, int grads) {
    if (!p.is_3d || is_large(p)) return 0;
    const Problem q = with_axes_by_stride(p);
    return partial_maps_bytes(q, grads, q.planes(), q.height);
}

Problem only_x(Problem p) {
    p.grad_y.data = nullptr;
    return p;
}
Problem only_y(Problem p) {
    exchange_images(p);
    p.value.data = p.map.data = nullptr;
    return only_x(p);
}

void run_in_order(const Problem& p, const fusedssim_exec& exec) {
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
    const KernelType type = kernel_type(p);
    const int grads = kernel_grads(p, type);
    if (grads < p.grads()) {
        run_in_order(only_x(p), exec);
        run_in_order(only_y(p), exec);
        return;
    }
    const Blocks blocks = cut_blocks(p, type, grads);

    // Whatever can fail comes first: kernels are found before any is launched.
    const KernelType first_type = blocks.partition.planes > 1 ? in_sheets(type) : type;
    const int first_filter = first_kernel(p.is_3d, p.is_normalized, first_type, grads);
    const KernelType second_type = p.is_3d ? backward_type(p) : type;
    // A backward with saved maps needs no first pass, a forward that saves them no second one.
    const bool has_first = !p.saved || !p.grads(), has_second = p.grads() && has_two_passes(p.is_3d, type, grads);
    const auto find = [&](int kernel) { return find_kernel(driver, exec.device_id, kernel); };
    const bool is_completed = sums && p.groups == 1 && blocks.sums <= kMostSums &&
                              (!p.is_3d || blocks.slabs.is_whole()) &&
                              with_constants(type, grads, [&](auto zero, auto bucket, auto) {
                                  return has_completion<decltype(zero)>(bucket, p.is_normalized);
                              });
    const CUfunction reduce = sums && !is_completed ? find(small_kernel(Family::reduce_sums, p.arithmetic)) : nullptr;
    const CUfunction sum_mask = mask_sums ? find(small_kernel(Family::sum_mask, p.arithmetic)) : nullptr;
    const CUfunction reduce_mask = mask_sums ? find(small_kernel(Family::reduce_mask, p.arithmetic)) : nullptr;
    const auto launch_mask_sums = [&] {
        if (!mask_sums) return;
        const MaskParams k = make_mask_params(p, doubles(true, workspace.parts), mask_sums);
        launch(driver, exec, sum_mask, few_blocks(k.planes * k.parts), kThreadsReduce, k);
        launch(driver, exec, reduce_mask, few_blocks(2 * k.groups), kThreadsReduce, k);
    };
    with_constants(type, grads, [&](auto zero, auto bucket, auto) {
        using A = decltype(zero);
        SsimParams<A> k = make_ssim_params<A>(p, blocks, second_type.is_general());
        k.sums = sums;
        k.mask_sums = p.reduction.is_mean ? mask_sums : nullptr;
        if (is_completed)
            k.completion = {launch_number(), reinterpret_cast<SealedSum*>(memory + workspace.sums),
                            make_reduce_params(p, sums, mask_sums, blocks)};
        const CUfunction first = has_first ? find(first_filter) : nullptr;
        const CUfunction second = has_second ? find(second_kernel(p.is_3d, second_type, grads)) : nullptr;
        if (!p.is_3d && p.grads() && p.map.data) {
            // An image's kernels of gradients have no registers for the map: the one of values writes it.
            Problem map_only = p;
            map_only.grad_x.data = map_only.grad_y.data = nullptr;
            run_in_order(map_only, exec);
        }
        launch_mask_sums();
        void* const maps = p.saved ? p.saved : memory + workspace.maps;
        if (p.is_3d) {
            const auto launch_part = [&](CUfunction kernel, const Part& part) {
                if (!kernel || !part.tiles_y) return;
                const Blocks of_part = blocks.slabs.is_whole() ? blocks : cut_part(p, type, blocks.slabs, part);
                set_part(k, p, part, of_part, blocks.slabs, maps, grads);
                launch(driver, exec, kernel, of_part.total, Block3d<A, bucket>::threads, k);
                if (sums && kernel == first) k.sums += of_part.total;
            };
            blocks.slabs.each([&](const Part& first_part, const Part& second_part) {
                launch_part(first, first_part);
                launch_part(second, second_part);
            });
            return;
        }
        k.maps.data = maps;
        const auto threads = [](auto shape) { return decltype(shape)::threads; };
        if (first) launch(driver, exec, first, blocks.total, with_strips(p, type, grads, threads), k);
        if (second) {
            const Blocks second_blocks = cut_second_pass(p, type, grads, blocks);
            k.partition = second_blocks.partition;
            k.blocks = second_blocks.total;
            launch(driver, exec, second, second_blocks.total, with_second_strips(type, grads, threads), k);
        }
    });
    if (reduce)
        launch(driver, exec, reduce, few_blocks(p.groups), kThreadsReduce,
               make_reduce_params(p, sums, mask_sums, blocks));
}

CUfunction combine_kernel(Dtype arithmetic, const fusedssim_exec& exec) {
    const Driver& driver = require_driver();
    const ContextScope context(driver, exec.device_id);
    return find_kernel(driver, exec.device_id, small_kernel(Family::combine, arithmetic));
}

// The images of the next level, where no other kernel has written them.
void pool(const Problem& p, const fusedssim_exec& exec) {
    const Driver& driver = require_driver();
    const ContextScope context(driver, exec.device_id);
    const auto pool_image = [&](Dtype dtype, double scale, const View& in, const View& out) {
        const PoolParams k = make_pool_params(p, dtype, scale, in, out);
        const CUfunction kernel = find_kernel(driver, exec.device_id, small_kernel(Family::pool, p.arithmetic, dtype));
        launch(driver, exec, kernel, few_blocks(ceil_div(k.rows, kThreadsReduce / 32)), kThreadsReduce, k);
    };
    pool_image(p.x_dtype, p.x_scale, p.x, p.pooled_x);
    pool_image(p.y_dtype, p.y_scale, p.y, p.pooled_y);
}

// Finds the kernels that filter, which loads the code that they are in.
void load_filters(const Problem& p, const fusedssim_exec& exec) {
    const Driver& driver = require_driver();
    const ContextScope context(driver, exec.device_id);
    const KernelType type = kernel_type(p), second_type = p.is_3d ? backward_type(p) : type;
    const int grads = kernel_grads(p, type);
    if (grads < p.grads()) return load_filters(only_x(p), exec);
    find_kernel(driver, exec.device_id, first_kernel(p.is_3d, p.is_normalized, type, grads));
    if (has_two_passes(p.is_3d, type, grads))
        find_kernel(driver, exec.device_id, second_kernel(p.is_3d, second_type, grads));
}

void run(const Problem* problems, int count, const fusedssim_exec& exec) {
    std::vector<Problem> renamed;
    renamed.reserve(std::size_t(count));
    for (int i = 0; i < count; ++i) renamed.push_back(with_axes_by_stride(problems[i]));
    // Levels write gradients one after the other. What can fail comes before the first, and before what is done later
    // to all of them.
    if (count > 1) {
        for (const Problem& p : renamed) load_filters(p, exec);
        combine_kernel(renamed[0].arithmetic, exec);
    }
    for (int i = 0; i < count; ++i) {
        run_in_order(renamed[std::size_t(i)], exec);
        if (problems[i].pooled_x.data && !pools_in_pass(renamed[std::size_t(i)])) pool(problems[i], exec);
    }
}

void scale(const ScaleProblem* steps, int count, const fusedssim_exec& exec) {
    const Driver& driver = require_driver();
    const ContextScope context(driver, exec.device_id);
    for (int i = 0; i < count; ++i) {
        const ScaleParams k = make_scale_params(steps[i]);
        const CUfunction kernel =
            find_kernel(driver, exec.device_id, small_kernel(Family::scale, Dtype::float32, steps[i].grad_dtype));
        // Few blocks that take many rows: where nothing is to be done, little is launched.
        const std::int64_t wanted =
            k.flat ? ceil_div(k.flat, 4 * kThreadsReduce) : ceil_div(k.rows, kThreadsReduce / 32);
        launch(driver, exec, kernel, std::min<std::int64_t>(wanted, 8 * kMultiprocessors), kThreadsReduce, k);
    }
}

void combine(const CombineProblem& p, const fusedssim_exec& exec) {
    const Driver& driver = require_driver();
    const ContextScope context(driver, exec.device_id);
    const CombineParams k = make_combine_params(p);
    launch(driver, exec, combine_kernel(p.arithmetic, exec), few_blocks(k.groups), kThreadsReduce, k);
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

constexpr bool kUsesWorkspace = true, kIsHost = false;
const Backend backend = {kUsesWorkspace, kIsHost, run, scale, combine, workspace_bytes, saved_bytes, fill_info};

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
