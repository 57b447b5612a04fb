// SPDX-License-Identifier: MIT
//
// The CPU's row in the table of devices: hands tasks to threads, and makes values of their sums.
#include "cpu/backend.h"

#include <atomic>
#include <cstring>
#include <vector>

#include "core/arithmetic.h"
#include "core/dtype.h"
#include "core/level_product.h"
#include "core/memory.h"
#include "cpu/isa.h"
#include "cpu/kernels.h"
#include "cpu/threads.h"
#include "cpu/tiling.h"
#include "error.h"

namespace fusedssim::cpu {

namespace {

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

// One of the problems that run at once, and the memory that it takes, but for the scratch memory of the workers.
struct Job {
    const Problem& problem;
    Tiling tiling;
    std::vector<SliceSums> sums;
    std::vector<MaskSums> mask_sums;
    std::int64_t tasks_end;  // of the tasks of all problems, counted from those of the first one on

    Job(const Problem& p, const Kernels& k, int most_threads, std::int64_t tasks_before) : problem(p) {
        const std::int64_t elements = p.planes() * p.volume();
        const int threads = thread_count(most_threads, elements, elements);
        tiling = make_tiling(p, k, threads);
        tasks_end = tasks_before + tiling.tasks;
        if (p.value.data) sums.resize(std::size_t(p.planes() * tiling.tiles_x * tiling.sums_y * tiling.length));
        // Weights are also checked where nobody asks for their sums.
        if (p.needs_mask_sums() || (p.mask.data && !p.mask_is_bool)) mask_sums = sum_masks(p, k, threads);
    }
    Work work() {
        return {problem, tiling, mask_sums.empty() ? nullptr : mask_sums.data(), sums.empty() ? nullptr : sums.data()};
    }
    Task task(std::int64_t i) const {
        const Tiling& t = tiling;
        std::int64_t rest = i - (tasks_end - t.tasks);
        Task task{};
        task.chunk = int(rest % t.chunks);
        rest /= t.chunks;
        task.tile_x = int(rest % t.tiles_x);
        rest /= t.tiles_x;
        task.tile_y = int(rest % t.tiles_y);
        task.plane = rest / t.tiles_y;
        return task;
    }
};

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

// Hands out the rows of the coarsest level, as many at once as make some 32768 elements of the finest.
template <class F>
void on_rows(const fusedssim_exec& exec, std::int64_t rows, std::int64_t elements, std::int64_t passes, F&& work) {
    const std::int64_t some = std::max<std::int64_t>(1, 32768 * rows / elements), tasks = ceil_div(rows, some);
    std::atomic<std::int64_t> next{0};
    // A pass over memory takes an eighth of the time that the filters take.
    on_threads(thread_count(exec.cpu_threads, tasks, passes * elements / 8), [&] {
        for (std::int64_t i; (i = next.fetch_add(1)) < tasks;) work(i * some, std::min((i + 1) * some, rows));
    });
}

// The images of each level but the first, from those of the level before.
void pool(const Problem* levels, int count, const fusedssim_exec& exec) {
    const Kernels& k = kernels();
    const Problem& coarsest = levels[count - 1];
    on_rows(exec, coarsest.planes() * coarsest.depth * coarsest.height, levels[0].planes() * levels[0].volume(), 2,
            [&](std::int64_t first, std::int64_t last) { k.pool(levels, count, first, last); });
}

// The tasks of all problems are one list: the threads start once, and none waits for another before the list ends.
void run(const Problem* problems, int count, const fusedssim_exec& exec) {
    const Kernels& k = kernels();
    if (problems[0].pooled_x.data) pool(problems, count, exec);
    // All memory comes before the first result: a call that fails has written nothing.
    const int most_threads = exec.cpu_threads ? exec.cpu_threads : default_threads();
    std::vector<Job> jobs;
    jobs.reserve(std::size_t(count));
    std::int64_t tasks = 0, elements = 0;
    std::size_t bytes = 0;
    for (int i = 0; i < count; ++i) {
        jobs.emplace_back(problems[i], k, most_threads, tasks);
        tasks = jobs.back().tasks_end;
        elements += problems[i].planes() * problems[i].volume();
        bytes = std::max(bytes, k.scratch_bytes(problems[i], jobs.back().tiling));
    }
    const int workers = thread_count(most_threads, tasks, elements);
    const std::size_t stride = round_up(bytes, AlignedMemory::kAlignment);
    const AlignedMemory all_scratch(std::size_t(workers) * stride);
    std::atomic<int> next_worker{0};
    std::atomic<std::int64_t> next{0};
    on_threads(workers, [&] {
        unsigned char* const scratch = all_scratch.get() + std::size_t(next_worker.fetch_add(1)) * stride;
        std::int64_t i = next.fetch_add(1);
        for (Job& job : jobs) {
            if (i >= job.tasks_end) continue;
            std::memset(scratch, 0, k.scratch_bytes(job.problem, job.tiling));
            for (const Work work = job.work(); i < job.tasks_end; i = next.fetch_add(1))
                k.run(work, job.task(i), scratch);
        }
    });
    for (Job& job : jobs)
        if (job.problem.value.data) write_values(job.work());
}

void scale(const ScaleProblem* steps, int count, const fusedssim_exec& exec) {
    const Kernels& k = kernels();
    const ScaleProblem& finest = steps[count - 1];
    on_rows(exec, steps[0].rows(), finest.rows() * finest.width, 1,
            [&](std::int64_t first, std::int64_t last) { k.scale(steps, count, first, last); });
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
const Backend backend = {kUsesWorkspace, kIsHost, run, scale, combine, workspace_bytes, saved_bytes, fill_info};

}  // namespace fusedssim::cpu
