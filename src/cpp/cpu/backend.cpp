// SPDX-License-Identifier: MIT
//
// The CPU's row in the table of devices: hands tasks to threads, and makes values of their sums.
#include "cpu/backend.h"

#include <atomic>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "core/arithmetic.h"
#include "core/dtype.h"
#include "core/level_product.h"
#include "cpu/isa.h"
#include "cpu/kernels.h"
#include "cpu/threads.h"
#include "cpu/tiling.h"
#include "error.h"

namespace fusedssim::cpu {

namespace {

struct AlignedDelete {
    void operator()(void* p) const { ::operator delete(p, std::align_val_t(64)); }
};

// The sums of the mask in each group. Planes that broadcasting makes equal are read once.
std::vector<MaskSums> sum_masks(const Problem& p, const Kernels& k, int threads) {
    const std::int64_t images = p.mask.n ? p.images : 1, channels = p.mask.c ? p.channels : 1;
    const int length = p.size(walk_axis(p.is_3d));
    std::vector<MaskSums> slices(std::size_t(images * channels * length)), groups(std::size_t(p.groups));
    std::atomic<std::int64_t> next{0};
    on_threads(thread_count(threads, images * channels * length, images * channels * p.volume() / 8), [&] {
        for (std::int64_t i; (i = next.fetch_add(1)) < images * channels * length;) {
            const std::int64_t plane = i / length, n = plane / channels, c = plane % channels;
            slices[std::size_t(i)] = k.sum_mask(p, n * p.channels + c, int(i % length));
        }
    });
    for (std::int64_t plane = 0; plane < p.planes(); ++plane) {
        MaskSums& group = groups[std::size_t(plane / p.planes_per_group)];
        const std::int64_t n = plane / p.channels % images, c = plane % p.channels % channels;
        for (std::int64_t i = (n * channels + c) * length; i < (n * channels + c + 1) * length; ++i) {
            group.map += slices[std::size_t(i)].map;
            group.image += slices[std::size_t(i)].image;
            if (slices[std::size_t(i)].has_bad_weight)
                fail(kInvalid, "{params.mask} has an element that is negative or not finite, expected weights >= 0");
        }
    }
    return groups;
}

void write_values(const Work& w) {
    const Problem& p = w.problem;
    const Tiling& t = w.tiling;
    const std::int64_t per_group = p.planes_per_group * t.tiles_x * t.sums_y * t.length;
    for (std::int64_t group = 0; group < p.groups; ++group) {
        double dssim = 0, l1 = 0;
        for (std::int64_t i = group * per_group; i < (group + 1) * per_group; ++i) {
            dssim += w.sums[i].dssim;
            l1 += w.sums[i].l1;
        }
        const double map_elements = w.mask_sums ? w.mask_sums[group].map : p.map_elements();
        const double image_elements = w.mask_sums ? w.mask_sums[group].image : p.image_elements();
        const double value = reduced_value(p.reduction, dssim, l1, map_elements, image_elements);
        // A group is everything, an image, or a plane: its first plane tells where its value goes.
        const std::int64_t plane = group * p.planes_per_group;
        const std::int64_t at = plane / p.channels * p.value.n + plane % p.channels * p.value.c;
        dispatch_arithmetic(p.arithmetic, [&](auto zero) {
            using A = decltype(zero);
            static_cast<A*>(p.value.data)[at] = A(value);
        });
    }
}

void run(const Problem& p, const fusedssim_exec& exec) {
    const Kernels& k = kernels();
    const std::int64_t elements = p.planes() * p.volume();
    const int available = thread_count(exec.cpu_threads, elements, elements);
    const Tiling t = make_tiling(p, k, available);
    // All memory comes before the first result: a call that fails has written nothing.
    std::vector<SliceSums> sums(p.value.data ? std::size_t(p.planes() * t.tiles_x * t.sums_y * t.length) : 0);
    std::vector<MaskSums> mask_sums;
    // Weights are also checked where nobody asks for their sums.
    if (p.needs_mask_sums() || (p.mask.data && !p.mask_is_bool)) mask_sums = sum_masks(p, k, available);
    const Work work{p, t, mask_sums.empty() ? nullptr : mask_sums.data(), sums.empty() ? nullptr : sums.data()};
    const std::size_t bytes = k.scratch_bytes(p, t);
    const int workers = thread_count(available, t.tasks, elements);
    const std::size_t stride = round_up(bytes, std::size_t(64));
    const std::unique_ptr<char, AlignedDelete> all_scratch(
        static_cast<char*>(::operator new(std::size_t(workers) * stride, std::align_val_t(64))));
    std::atomic<int> next_worker{0};
    std::atomic<std::int64_t> next{0};
    on_threads(workers, [&] {
        char* const scratch = all_scratch.get() + std::size_t(next_worker.fetch_add(1)) * stride;
        std::memset(scratch, 0, bytes);
        for (std::int64_t i; (i = next.fetch_add(1)) < t.tasks;) {
            Task task{};
            std::int64_t rest = i;
            task.chunk = int(rest % t.chunks);
            rest /= t.chunks;
            task.tile_x = int(rest % t.tiles_x);
            rest /= t.tiles_x;
            task.tile_y = int(rest % t.tiles_y);
            task.plane = rest / t.tiles_y;
            k.run(work, task, scratch);
        }
    });
    if (p.value.data) write_values(work);
}

void scale(const ScaleProblem& p, const fusedssim_exec& exec) {
    const Kernels& k = kernels();
    const std::int64_t rows = p.rows(), some = ceil_div(std::int64_t(32768), p.width), tasks = ceil_div(rows, some);
    std::atomic<std::int64_t> next{0};
    on_threads(thread_count(exec.cpu_threads, tasks, rows * p.width / 8), [&] {
        for (std::int64_t i; (i = next.fetch_add(1)) < tasks;) k.scale(p, i * some, std::min((i + 1) * some, rows));
    });
}

void pool(const PoolProblem& p, const fusedssim_exec& exec) {
    const Kernels& k = kernels();
    const std::int64_t planes = p.images * p.channels, slices = pooled_size(p.is_3d ? p.depth : p.height);
    std::atomic<std::int64_t> next{0};
    on_threads(thread_count(exec.cpu_threads, planes * slices, planes * p.depth * p.height * p.width / 8), [&] {
        for (std::int64_t i; (i = next.fetch_add(1)) < planes * slices;) k.pool(p, i / slices, int(i % slices));
    });
}

void combine(const CombineProblem& p, const fusedssim_exec&) {
    dispatch_arithmetic(p.arithmetic, [&](auto zero) {
        using A = decltype(zero);
        const std::int64_t planes = p.images * p.channels;
        for (std::int64_t group = 0; group < p.groups; ++group) {
            double sum = 0;
            for (std::int64_t i = 0; i < p.planes_per_group; ++i) {
                const std::int64_t plane = group * p.planes_per_group + i;
                sum += level_product(static_cast<const A*>(p.means) + plane, p.weights, p.levels, planes,
                                     p.is_mean ? 1 / double(p.planes_per_group) : 1.0,
                                     p.upstream ? static_cast<A*>(p.upstream) + plane : nullptr);
            }
            const std::int64_t plane = group * p.planes_per_group;
            if (p.value.data)
                static_cast<A*>(p.value.data)[plane / p.channels * p.value.n + plane % p.channels * p.value.c] =
                    A(p.is_mean ? sum / double(p.planes_per_group) : sum);
        }
    });
}

std::size_t workspace_bytes(const Problem&) { return 0; }
std::size_t saved_bytes(const Problem&, int) { return 0; }  // computing again is cheaper than memory

void fill_info(fusedssim_info& info) {
    info.cpu_isa = kernels().name;
    info.cpu_threads = default_threads();
}

}  // namespace

constexpr bool kUsesWorkspace = false, kIsHost = true;
const Backend backend = {kUsesWorkspace, kIsHost, run, scale, pool, combine, workspace_bytes, saved_bytes, fill_info};

}  // namespace fusedssim::cpu
