// SPDX-License-Identifier: MIT
//
// SSIM in float64 from its definition, without any trick of the kernels: filters are dense matrices, the formula is the
// classic one, gradients are sums of transposed matrices.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <vector>

#include "fusedssim/fusedssim.h"

using Values = std::vector<double>;
using Extents = std::array<int, 3>;

// One axis: what each position sees of each element.
using Matrix = std::vector<Values>;

// The element that is seen at a position, found by going there step by step; -1: a zero.
inline int seen(fusedssim_padding padding, int position, int size) {
    if (position >= 0 && position < size) return position;
    if (padding == FUSEDSSIM_PADDING_SAME || padding == FUSEDSSIM_PADDING_VALID) return -1;
    if (padding == FUSEDSSIM_PADDING_REPLICATE || size == 1) return position < 0 ? 0 : size - 1;
    int at = 0, step = 1;
    if (position < 0) position = padding == FUSEDSSIM_PADDING_REFLECT ? -position : -1 - position;
    for (int i = 0; i < position; ++i) {
        const bool leaves = at + step < 0 || at + step >= size;
        if (leaves) step = -step;
        if (!leaves || padding == FUSEDSSIM_PADDING_REFLECT) at += step;  // symmetric: the edge once more
    }
    return at;
}

inline Matrix filter_of(fusedssim_padding padding, const Values& taps, int size) {
    const int radius = int(taps.size()) / 2;
    Matrix m(std::size_t(size), Values(std::size_t(size), 0));
    for (int i = 0; i < size; ++i)
        for (int k = -radius; k <= radius; ++k) {
            const int j = seen(padding, i + k, size);
            if (j >= 0) m[std::size_t(i)][std::size_t(j)] += taps[std::size_t(k + radius)];
        }
    return m;
}

struct Oracle {
    Extents size;
    std::array<Matrix, 3> matrix;
    double c1, c2, factor;  // of covariances: n / (n - 1), or 1
    bool is_normalized;
    double variance_grad_scale = 1;  // what multiplies derivatives by variances and covariance

    std::size_t count() const { return std::size_t(size[0]) * std::size_t(size[1]) * std::size_t(size[2]); }

    Values filter(Values v, bool transposed = false) const {
        std::size_t stride = count();
        for (std::size_t axis = 0; axis < 3; ++axis) {
            const auto n = std::size_t(size[axis]);
            stride /= n;
            Values to(v.size(), 0);
            for (std::size_t at = 0; at < v.size(); ++at) {
                const std::size_t i = at / stride % n, begin = at - i * stride;
                for (std::size_t j = 0; j < n; ++j)
                    to[at] += (transposed ? matrix[axis][j][i] : matrix[axis][i][j]) * v[begin + j * stride];
            }
            v = to;
        }
        return v;
    }

    // The map of SSIM, or of contrast and structure alone; `weights`: what its elements weigh in a sum, of which grads
    // gets the gradients by x and y.
    Values map(const Values& x, const Values& y, const Values& mask, bool has_luminance, const Values* weights,
               Values* grads) const {
        const std::size_t n = count();
        const auto product = [&](const Values& a, const Values& b) {
            Values p(n);
            for (std::size_t i = 0; i < n; ++i) p[i] = a[i] * b[i];
            return p;
        };
        const Values m = is_normalized ? mask : Values(n, 1);
        Values mass = is_normalized ? filter(m) : Values(n, 1);
        const Values mx = product(m, x), my = product(m, y);
        const Values fx = filter(mx), fy = filter(my), fxx = filter(product(mx, x)), fyy = filter(product(my, y)),
                     fxy = filter(product(mx, y));
        Values s(n), by[5];
        for (Values& each : by) each.assign(n, 0);
        for (std::size_t i = 0; i < n; ++i) {
            if (!(mass[i] > 0)) {
                s[i] = 1;
                continue;
            }
            const double u = 1 / mass[i], a = fx[i] * u, b = fy[i] * u;
            const double xx = factor * (fxx[i] * u - a * a), yy = factor * (fyy[i] * u - b * b),
                         xy = factor * (fxy[i] * u - a * b);
            const double n1 = has_luminance ? 2 * a * b + c1 : 1, d1 = has_luminance ? a * a + b * b + c1 : 1;
            const double n2 = 2 * xy + c2, d2 = xx + yy + c2, l = n1 / d1, cs = n2 / d2;
            s[i] = l * cs;
            if (!weights) continue;
            const double w = (*weights)[i] * u, of_d = has_luminance ? 1 : 0;
            const double by_factor = factor * variance_grad_scale;
            const double by_xy = by_factor * l * 2 / d2, by_var = -by_factor * l * cs / d2;
            by[0][i] = w * (of_d * cs * (2 * b - 2 * a * l) / d1 - by_var * 2 * a - by_xy * b);
            by[1][i] = w * (of_d * cs * (2 * a - 2 * b * l) / d1 - by_var * 2 * b - by_xy * a);
            by[2][i] = w * by_var;
            by[3][i] = w * by_xy;
        }
        if (weights) {
            const Values gx = filter(by[0], true), gy = filter(by[1], true), gv = filter(by[2], true),
                         gxy = filter(by[3], true);
            grads[0].resize(n);
            grads[1].resize(n);
            for (std::size_t i = 0; i < n; ++i) {
                grads[0][i] = m[i] * (gx[i] + 2 * x[i] * gv[i] + y[i] * gxy[i]);
                grads[1][i] = m[i] * (gy[i] + 2 * y[i] * gv[i] + x[i] * gxy[i]);
            }
        }
        return s;
    }
};
