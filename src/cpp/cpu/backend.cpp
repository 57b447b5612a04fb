// SPDX-License-Identifier: MIT
#include "cpu/backend.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "core/dtype.h"
#include "core/level_product.h"
#include "cpu/kernels.h"
#include "error.h"
#if defined(FUSEDSSIM_HAVE_X86_ISAS)
#include "cpu/features.h"
#endif

namespace fusedssim::cpu {

namespace {

const Kernels& choose_kernels() {
    const char* wanted = std::getenv("FUSEDSSIM_CPU_ISA");
    std::vector<const Kernels*> usable = {&kernels_baseline};
#if defined(FUSEDSSIM_HAVE_X86_ISAS)
    const Features have = features();
    if (have.avx2) usable.push_back(&kernels_avx2);
    if (have.avx512) usable.push_back(&kernels_avx512);
#endif
    const Kernels* best = usable.back();
    if (wanted && *wanted) {
        const auto named = [&](const Kernels* k) { return !std::strcmp(k->name, wanted); };
        const auto found = std::find_if(usable.begin(), usable.end(), named);
        if (found == usable.end())
            fail(FUSEDSSIM_INVALID_ARGUMENT,
                 "the environment variable FUSEDSSIM_CPU_ISA = %s, expected baseline, avx2 or avx512, as far as this "
                 "processor and this build have them (best: %s)",
                 wanted, best->name);
        best = *found;
    }
    return *best;
}

const Kernels& kernels() {
    static const Kernels& chosen = choose_kernels();
    return chosen;
}

// Runs work() on up to `threads` threads, the calling one included. Threads live for one call: nothing
// is left behind that a fork could break, and a start costs some ten microseconds, which `threads` accounts for.
template <class Work>
void on_threads(int threads, Work&& work) {
    std::exception_ptr failure;
    std::mutex mutex;
    auto guarded = [&] {
        try {
            work();
        } catch (...) {
            const std::lock_guard<std::mutex> lock(mutex);
            failure = std::current_exception();
        }
    };
    std::vector<std::thread> others;
    others.reserve(std::size_t(threads - 1));
    for (int i = 1; i < threads; ++i) {
        try {
            others.emplace_back(guarded);
        } catch (...) {
            break;  // the system has no more threads, or no memory for one: those that there are do the work
        }
    }
    guarded();
    for (std::thread& other : others) other.join();
    if (failure) std::rethrow_exception(failure);
}

int default_threads() { return std::max(1, int(std::thread::hardware_concurrency())); }

// As many threads as are asked for and as there are tasks, and no more than pays for starting them.
int thread_count(int asked, std::int64_t tasks, std::int64_t elements) {
    constexpr std::int64_t kElementsPerThread = 16384;  // about 100 microseconds of work
    const std::int64_t limit = std::min(tasks, std::max<std::int64_t>(1, elements / kElementsPerThread));
    return int(std::min<std::int64_t>(asked ? asked : default_threads(), limit));
}

// What a tile's windows may take: a large second-level cache, or a core's share of the third. With less, the halos of more
// tiles cost more than the misses that they spare (measured on an Intel Xeon with 2 MB).
constexpr std::size_t kCacheBytes = 2048 * 1024;
// Scratch memory of a thread that is small at any rate; and images so small that what they need is, too.
constexpr std::size_t kLeastScratchBytes = 336 * 1024;
constexpr std::size_t kSmallImageBytes = 2048 * 1024;

int ceil_div(int a, int b) { return (a + b - 1) / b; }

// Equal tiles of at most `most` elements, and whole cache lines of float32 if there are several.
int even_tile(int extent, int most, int multiple) {
    const int tile = ceil_div(extent, ceil_div(extent, most));
    return std::min(extent, ceil_div(tile, multiple) * multiple);
}

Tiling make_tiling(const Problem& p, const Kernels& k, int threads) {
    Tiling t{};
    const Axis walk = walk_axis(p.is_3d), row = row_axis(p.is_3d), column = Axis::x;
    t.length = p.size(walk);
    t.rows = p.size(row);
    t.columns = p.size(column);
    t.tile_columns = even_tile(t.columns, p.is_3d ? kMaxTileColumns / 2 : kMaxTileColumns, 16);
    t.tiles_x = ceil_div(t.columns, t.tile_columns);
    t.sums_y = ceil_div(t.rows, kSumRows);
    // The highest tiles, and so the least halo, whose windows stay in the second-level cache, and whose scratch memory is
    // small beside the images (for two threads).
    const std::size_t element = dtype_size(arithmetic_dtype(p.image_dtype));
    const auto image = std::size_t(p.planes() * p.volume()) * element;
    const std::size_t share =
        image <= kSmallImageBytes ? kCacheBytes : std::max(kLeastScratchBytes, image / (p.grads() ? 12 : 24));
    // On both sides together: of the statistics, and of the partials.
    const int filters = p.grads() ? 2 : 1;
    const int halo_rows = filters * 2 * p.radius(row), halo_columns = filters * 2 * p.radius(column);
    const auto is_too_large = [&] {
        const std::size_t scratch = k.scratch_bytes(p, t);
        const std::size_t columns = std::size_t(std::min(t.columns, t.tile_columns + halo_columns));
        const std::size_t read = 2 * columns * std::size_t(std::min(t.rows, t.tile_rows + halo_rows));
        const std::size_t written = std::size_t(p.grads()) * std::size_t(t.tile_columns) * std::size_t(t.tile_rows);
        const std::size_t window = std::size_t(2 * p.radius(walk) + 4) * (read + written) * element;
        return scratch + window > kCacheBytes || scratch > share;
    };
    const auto cut_rows = [&](int tiles) { t.tile_rows = even_tile(t.rows, ceil_div(t.rows, tiles), kSumRows); };
    for (t.tile_rows = t.rows; t.tile_rows > kSumRows && is_too_large();)
        t.tile_rows = (t.tile_rows - 1) / kSumRows * kSumRows;
    const int least_tiles = ceil_div(t.rows, t.tile_rows);
    // More tiles, or chunks of the walk, so that the threads end together: each pays for its halo, except at the border of
    // the image. The last thread works for half a task, on average, while the others have none left.
    const double idle = threads > 1 ? 0.5 : 0;
    const int halo_slices = p.grads() ? 2 * p.radius(walk) : 0;
    double least = 0;
    Tiling best = t;
    for (int tiles = least_tiles; tiles <= std::max(least_tiles, t.sums_y); ++tiles) {
        cut_rows(tiles);
        t.tiles_y = ceil_div(t.rows, t.tile_rows);
        if (t.tiles_y != tiles) continue;
        for (int chunks = 1; chunks <= std::max(1, std::min(4 * threads, t.length / 8)); ++chunks) {
            t.chunk = ceil_div(t.length, chunks);
            t.chunks = ceil_div(t.length, t.chunk);
            t.tasks = p.planes() * t.tiles_y * t.tiles_x * t.chunks;
            const std::int64_t rounds = (t.tasks + threads - 1) / threads;
            const double slices = double(t.length + (t.chunks - 1) * halo_slices) / t.chunks;
            const double rows = double(t.rows + (t.tiles_y - 1) * halo_rows) / t.tiles_y;
            const double time = (double(rounds) + idle) * slices * rows;
            if (least != 0 && time > 0.99 * least) continue;
            least = time;
            best = t;
        }
    }
    return best;
}

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
        dispatch_arithmetic(arithmetic_dtype(p.image_dtype), [&](auto zero) {
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
    if (p.needs_mask_sums()) mask_sums = sum_masks(p, k, available);
    const Work work{p, t, mask_sums.empty() ? nullptr : mask_sums.data(), sums.empty() ? nullptr : sums.data()};
    const std::size_t bytes = k.scratch_bytes(p, t);
    const int workers = thread_count(available, t.tasks, elements);
    const std::size_t stride = (bytes + 63) / 64 * 64;
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
    const std::int64_t planes = p.images * p.channels;
    std::atomic<std::int64_t> next{0};
    on_threads(thread_count(exec.cpu_threads, planes, planes * p.depth * p.height * p.width / 8), [&] {
        for (std::int64_t plane; (plane = next.fetch_add(1)) < planes;) k.scale(p, plane);
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

constexpr bool kUsesWorkspace = false;
const Backend backend = {kUsesWorkspace, run, scale, pool, combine, workspace_bytes, saved_bytes, fill_info};

}  // namespace fusedssim::cpu
