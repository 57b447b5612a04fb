// SPDX-License-Identifier: MIT
#include "cuda/axes.h"

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <utility>

#include "cuda/plan.h"
#include "cuda/slabs.h"

namespace fusedssim::cuda {

namespace {

// By new name, the old name of each axis.
struct AxisOrder {
    Axis z, y, x;
};

long long stride(const View& v, Axis axis) {
    switch (axis) {
        case Axis::z: return v.d;
        case Axis::y: return v.h;
        case Axis::x: return v.w;
    }
    return 0;
}

// Whether an axis may become x. A short one would leave most of a tile empty.
bool may_be_x(const Problem& p, Axis axis) {
    constexpr int kShortest = 32;
    return axis == Axis::x || p.size(axis) >= std::min(kShortest, p.width);
}

// Whether an order is good enough for slabs, which matters to memory alone. The names as they are have to be, at least
// with z and y exchanged.
bool is_fit_for_slabs(const Problem& p, const AxisOrder& order) {
    return has_rows_for_slabs(p, p.size(order.y)) || (order.x == Axis::x && p.size(order.y) >= p.size(order.z));
}

// Whether strips of an image would be almost empty, and those along its other axis full. Planes of one value can stand
// side by side in sheets, if there are enough of them.
bool is_narrow(const Problem& p, const AxisOrder& order) {
    constexpr int kNarrow = 32, kLong = 256;
    const std::int64_t width = p.size(order.x);
    return !p.is_3d && width < kNarrow && p.size(order.y) >= kLong && p.planes_per_group * width < kLong;
}

Problem with_axes(const Problem& p, const AxisOrder& order) {
    Problem q = p;
    q.depth = p.size(order.z);
    q.height = p.size(order.y);
    q.width = p.size(order.x);
    q.windows[int(Axis::z)] = p.windows[int(order.z)];
    q.windows[int(Axis::y)] = p.windows[int(order.y)];
    q.windows[int(Axis::x)] = p.windows[int(order.x)];
    for (View* view : {&q.x, &q.y, &q.map, &q.grad_out, &q.grad_x, &q.grad_y, &q.mask, &q.coarse_x, &q.coarse_y}) {
        const View before = *view;
        view->d = stride(before, order.z);
        view->h = stride(before, order.y);
        view->w = stride(before, order.x);
    }
    q.pooled_x = q.pooled_y = {};  // a pass along other axes would write every other element: pool() does it better
    return q;
}

}  // namespace

Problem with_axes_by_stride(const Problem& p) {
    constexpr AxisOrder kNames = {Axis::z, Axis::y, Axis::x};
    AxisOrder order = kNames;
    // Of an axis of one element: beyond all others.
    const auto stride_of = [&](const View& v, Axis axis) {
        return p.size(axis) == 1 ? INT64_MAX : std::int64_t(stride(v, axis));
    };
    const auto is_less = [&](const View& v, Axis a, Axis b) { return stride_of(v, a) < stride_of(v, b); };
    // Whether the first axis is inside the second, for both images.
    const auto is_inside = [&](Axis a, Axis b) { return is_less(p.x, a, b) && is_less(p.y, a, b); };
    const int first = p.is_3d ? 0 : 1;  // an image has no z
    Axis* const names[] = {&order.z, &order.y, &order.x};
    bool repeats = false;
    for (int i = first; i < 3; ++i)
        repeats = repeats || stride_of(p.x, *names[i]) <= 0 || stride_of(p.y, *names[i]) <= 0;
    // Another axis is the innermost if it is inside both others for both images.
    for (int i = first; i < 2 && !repeats; ++i) {
        bool is_innermost = may_be_x(p, *names[i]);
        for (int k = first; k < 3; ++k)
            if (k != i) is_innermost = is_innermost && is_inside(*names[i], *names[k]);
        if (!is_innermost) continue;
        for (int k = i; k < 2; ++k) std::swap(*names[k], *names[k + 1]);  // the others keep their order
        break;
    }
    if (p.is_3d && !repeats && is_inside(order.z, order.y)) std::swap(order.z, order.y);
    // Tiles fit one axis better than the other. And if an image has its innermost axis along z, a slice needs a sector
    // for each element, and the next slices find few of these in a cache. Rows of a tile take whole sectors.
    if (p.is_3d) {
        const auto cost = [&](const AxisOrder& of) {
            const auto is_innermost = [&](const View& v) { return is_less(v, of.z, of.y) && is_less(v, of.z, of.x); };
            const bool is_far = !repeats && (is_innermost(p.x) || is_innermost(p.y));
            return (is_far ? 1.25 : 1.0) * (is_large(p) ? 1.0 : double(volume_steps(with_axes(p, of))));
        };
        const AxisOrder other = {order.y, order.z, order.x};
        if (cost(other) < 0.95 * cost(order)) order = other;
    }
    if (is_narrow(p, order)) std::swap(order.y, order.x);
    if (!is_fit_for_slabs(p, order)) std::swap(order.z, order.y);
    if (!is_fit_for_slabs(p, order)) order = kNames;
    if (!is_fit_for_slabs(p, order)) std::swap(order.z, order.y);
    const bool is_same = order.z == Axis::z && order.y == Axis::y;
    return is_same ? p : with_axes(p, order);
}

}  // namespace fusedssim::cuda
