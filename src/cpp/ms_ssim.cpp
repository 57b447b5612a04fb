// SPDX-License-Identifier: MIT
//
// MS-SSIM: which problems of SSIM it consists of, and the memory between them.
//
//     level 0   x, y ----> means of cs ------+--> MS-SSIM, and its derivatives by the means --> gradient of level 0
//                | pool                       |                     |                                ^ handed down
//     level 1   x, y ----> means of cs ------+                     +----------------------> gradient of level 1
//                | pool                       |                     |                                ^
//     last      x, y ----> means of SSIM ----+                     +----------------------> gradient of the last level
//
// A level's means and their gradient are made in one pass. Then gradients go from the last level to the first: each is
// multiplied by the derivative by its means, and gets that of the level above. Gradients in half precision, which the
// first level alone has, would be rounded twice. So a host makes them in the type of the arithmetic first. On other
// devices, where memory is the caller's, a pass of their own makes them, which knows the derivatives.
#include "ms_ssim.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "core/arithmetic.h"
#include "core/dtype.h"
#include "core/memory.h"
#include "devices.h"
#include "error.h"
#include "settings.h"
#include "structs.h"
#include "tensors.h"

namespace fusedssim {

namespace {

MsProblem make_ms_base(const fusedssim_params& params, const fusedssim_ms_params& ms, const fusedssim_tensor& x) {
    if (ms.levels < 1 || ms.levels > FUSEDSSIM_MAX_LEVELS)
        fail(kInvalid, "{ms.levels} = %d, expected 1 to %d", int(ms.levels), FUSEDSSIM_MAX_LEVELS);
    MsProblem m{};
    m.levels = ms.levels;
    for (int i = 0; i < ms.levels; ++i) {
        if (!(ms.weights[i] >= 0) || !std::isfinite(ms.weights[i]))
            fail(kInvalid, "{ms.weights}[%d] = %g, expected a number >= 0", i, ms.weights[i]);
        m.weights[i] = ms.weights[i];
    }
    if (params.reduction == FUSEDSSIM_REDUCTION_NONE)
        fail(kInvalid, "{params.reduction} = NONE, expected another: MS-SSIM has no map");
    if (params.objective != FUSEDSSIM_OBJECTIVE_SSIM)
        fail(kInvalid, "{params.objective} = LOSS, expected SSIM: MS-SSIM has no other");
    if (params.mask) fail(kInvalid, "{params.mask} is given, expected NULL: MS-SSIM takes no mask");
    check_params(params);
    for (int i = 2; i < std::min(x.ndim, FUSEDSSIM_MAX_NDIM) && edges_of(params.padding).is_cropped; ++i) {
        const int radius = make_window(params, axis_of(x, i), x.ndim == 5, Dtype::float64).radius;
        const std::int64_t least = std::int64_t(2 * radius) << (ms.levels - 1);
        if (x.shape[i] <= least)
            fail(kInvalid,
                 "{x}.shape[%d] = %lld, expected more than %lld: ({params.window_size} - 1) * 2^({ms.levels} - 1), "
                 "padding valid",
                 i, static_cast<long long>(x.shape[i]), static_cast<long long>(least));
    }
    return m;
}

// Where everything lies in the memory of a call, in bytes from its beginning.
struct Layout {
    struct Level {
        std::size_t x, y, grad_x, grad_y;  // of the first: gradients that are rounded at the end; 0: the caller's
    } levels[FUSEDSSIM_MAX_LEVELS];
    std::size_t means, upstream;
    std::size_t inner;  // the workspace of one problem
    std::size_t total;
};

View contiguous(const Problem& p, void* data) {
    const std::int64_t row = p.width, slice = row * p.height, plane = slice * p.depth;
    return {data, p.channels * plane, plane, p.is_3d ? slice : 0, row, 1};
}

// Level `level` of m, with everything but the pointers. All levels but the first are of the type of the arithmetic.
Problem make_level(const MsProblem& m, int level) {
    Problem p = m.first;
    for (int i = 0; i < level; ++i) {
        if (p.is_3d) p.depth = pooled_size(p.depth);
        p.height = pooled_size(p.height);
        p.width = pooled_size(p.width);
    }
    if (level > 0) {
        p.x_dtype = p.y_dtype = p.arithmetic;
        p.x_scale = p.y_scale = 1;
        p.x = p.y = contiguous(p, nullptr);
    }
    // Contrast and structure alone: with an infinite C1 the luminance is 1, and has no derivative.
    if (level + 1 < m.levels) p.k1 = std::numeric_limits<double>::infinity();
    p.groups = p.planes();
    p.planes_per_group = 1;
    p.reduction.is_mean = 1;
    return p;
}

// Whether a gradient of the first level has another type than the arithmetic.
bool is_rounded(const Problem& p, const View& grad, Dtype dtype) {
    return grad.data && p.grad_dtype(dtype) != p.arithmetic;
}
// Whether the gradient is made before it is known what multiplies it.
bool scales_grads_later(const Problem& p, const Backend& backend) {
    return backend.is_host || (!is_rounded(p, p.grad_x, p.x_dtype) && !is_rounded(p, p.grad_y, p.y_dtype));
}

Problem without_grads(Problem p) {
    p.grad_x.data = p.grad_y.data = nullptr;
    return p;
}
Problem without_value(Problem p) {
    p.value.data = nullptr;
    return p;
}

Layout plan(const MsProblem& m, const Backend& backend) {
    Layout l{};
    const auto take = [&](std::size_t bytes) {
        const std::size_t at = l.total;
        l.total += round_up(bytes, std::size_t(256));
        return at;
    };
    const std::size_t size = dtype_size(m.first.arithmetic);
    const auto means_bytes = std::size_t(m.levels) * std::size_t(m.first.planes()) * size;
    const int grads = m.first.grads();
    l.means = take(means_bytes);
    if (grads) l.upstream = take(means_bytes);
    std::size_t inner = 0;
    for (int i = 0; i < m.levels; ++i) {
        Problem p = make_level(m, i);
        p.value.data = &l;  // run() will have a place for it
        if (i + 1 < m.levels) p.pooled_x.data = p.pooled_y.data = &l;
        const std::size_t image = std::size_t(p.planes()) * std::size_t(p.volume()) * size;
        if (i > 0) {
            l.levels[i].x = take(image);
            l.levels[i].y = take(image);
            if (grads > 0) l.levels[i].grad_x = take(image);
            if (grads > 1) l.levels[i].grad_y = take(image);
        } else if (backend.is_host) {
            if (is_rounded(p, p.grad_x, p.x_dtype)) l.levels[i].grad_x = take(image);
            if (is_rounded(p, p.grad_y, p.y_dtype)) l.levels[i].grad_y = take(image);
        }
        if (scales_grads_later(p, backend))
            inner = std::max(inner, backend.workspace_bytes(p));
        else
            inner =
                std::max({inner, backend.workspace_bytes(without_grads(p)), backend.workspace_bytes(without_value(p))});
    }
    l.inner = take(inner);
    return l;
}

}  // namespace

fusedssim_ms_params read_ms_params(const fusedssim_ms_params* ms) {
    fusedssim_ms_params m = FUSEDSSIM_MS_PARAMS_DEFAULT;
    read_struct(&m, sizeof m, 2 * sizeof(double), ms, "ms");
    return m;
}

MsProblem make_ms(const fusedssim_params& params, const fusedssim_ms_params& ms, const fusedssim_exec& exec,
                  const Arguments& a) {
    MsProblem m = make_ms_base(params, ms, read_tensor(a.x, "x"));
    m.first = a.grad_x || a.grad_y ? make_value_and_grad(params, exec, a) : make_forward(params, exec, a);
    return m;
}

MsProblem make_ms_sizes(const fusedssim_params& params, const fusedssim_ms_params& ms, fusedssim_grads grads,
                        const fusedssim_tensor* x, const fusedssim_tensor* y) {
    MsProblem m = make_ms_base(params, ms, read_tensor(x, "x"));
    m.first = make_sizes(params, grads ? FUSEDSSIM_OP_VALUE_AND_GRAD : FUSEDSSIM_OP_FORWARD, grads, x, y);
    return m;
}

std::size_t ms_workspace_bytes(const MsProblem& m, const fusedssim_exec& exec) {
    const Backend& backend = backend_of(exec);
    return backend.uses_workspace ? plan(m, backend).total : 0;
}

void run(const MsProblem& m, const fusedssim_exec& exec) {
    const Backend& backend = backend_of(exec);
    const Layout layout = plan(m, backend);
    std::optional<KeptMemory> host;
    unsigned char* memory;
    fusedssim_exec inner = exec;
    if (backend.uses_workspace) {
        require_workspace(exec, layout.total);
        memory = static_cast<unsigned char*>(exec.workspace);
        inner.workspace = memory + layout.inner;
        inner.workspace_bytes = layout.total - layout.inner;
    } else {
        memory = host.emplace(layout.total).get();
    }
    const std::int64_t planes = m.first.planes();
    const std::size_t size = dtype_size(m.first.arithmetic);
    const int grads = m.first.grads();
    const auto of_level = [&](std::size_t at, int level) { return memory + at + std::size_t(level) * planes * size; };

    std::vector<Problem> levels(std::size_t(m.levels));
    for (int i = 0; i < m.levels; ++i) {
        Problem& p = levels[i] = make_level(m, i);
        p.value = {of_level(layout.means, i), p.channels, 1, 0, 0, 0};
        if (i == 0) continue;
        p.x = contiguous(p, memory + layout.levels[i].x);
        p.y = contiguous(p, memory + layout.levels[i].y);
        levels[i - 1].pooled_x = p.x;
        levels[i - 1].pooled_y = p.y;
        if (grads > 0) p.grad_x = contiguous(p, memory + layout.levels[i].grad_x);
        if (grads > 1) p.grad_y = contiguous(p, memory + layout.levels[i].grad_y);
        // grad_scale comes in once, at the level that writes the result.
        p.grad_scale = 1;
    }
    const bool has_last_pass = grads && !scales_grads_later(levels[0], backend);
    Problem last_pass = without_value(levels[0]);
    last_pass.pooled_x = last_pass.pooled_y = {};
    if (has_last_pass) levels[0] = without_grads(levels[0]);
    const Layout::Level& wide = layout.levels[0];
    if (wide.grad_x) levels[0].grad_x = contiguous(levels[0], memory + wide.grad_x);
    if (wide.grad_y) levels[0].grad_y = contiguous(levels[0], memory + wide.grad_y);
    levels[0].has_wide_grads = wide.grad_x || wide.grad_y;

    CombineProblem combine{};
    combine.arithmetic = m.first.arithmetic;
    combine.images = m.first.images;
    combine.channels = m.first.channels;
    combine.groups = m.first.groups;
    combine.planes_per_group = m.first.planes_per_group;
    combine.is_mean = m.first.reduction.is_mean;
    combine.levels = m.levels;
    for (int i = 0; i < m.levels; ++i) combine.weights[i] = m.weights[i];
    combine.means = memory + layout.means;
    combine.upstream = grads ? memory + layout.upstream : nullptr;
    combine.value = m.first.value;

    // From the coarsest level to the finest; those of the gradient by x, and of that by y.
    std::vector<ScaleProblem> steps_x, steps_y;
    for (int i = m.levels - 1; i >= int(has_last_pass); --i) {
        const Problem& p = levels[i];
        const View upstream = {of_level(layout.upstream, i), p.channels, 1, 0, 0, 0};
        const auto step = [&](const View& grad, const View& coarse) {
            return ScaleProblem{p.arithmetic, p.arithmetic, p.images, p.channels, p.depth,           p.height, p.width,
                                upstream,     grad,         1.0,      coarse,     p.coarse_factor(), {},       {}};
        };
        const View none{};
        if (grads > 0) steps_x.push_back(step(p.grad_x, steps_x.empty() ? none : steps_x.back().grad));
        if (grads > 1) steps_y.push_back(step(p.grad_y, steps_y.empty() ? none : steps_y.back().grad));
    }

    const auto round = [&](ScaleProblem& finest, const View& to, Dtype image) {
        finest.to = to;
        finest.to_dtype = m.first.grad_dtype(image);
    };
    if (wide.grad_x) round(steps_x.back(), m.first.grad_x, m.first.x_dtype);
    if (wide.grad_y) round(steps_y.back(), m.first.grad_y, m.first.y_dtype);

    // run() has all its memory before it writes, and what follows needs none on the host: a call that fails has written
    // nothing.
    backend.run(levels.data(), m.levels, inner);
    backend.combine(combine, inner);
    for (const auto* steps : {&steps_x, &steps_y})
        if (!steps->empty()) backend.scale(steps->data(), int(steps->size()), inner);
    if (has_last_pass) {
        last_pass.upstream = kUpstreamPlane;
        last_pass.grad_out = {of_level(layout.upstream, 0), last_pass.channels, 1, 0, 0, 0};
        if (m.levels > 1) {
            last_pass.coarse_x = levels[1].grad_x;
            last_pass.coarse_y = levels[1].grad_y;
        }
        backend.run(&last_pass, 1, inner);
    }
}

}  // namespace fusedssim
