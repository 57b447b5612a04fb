// SPDX-License-Identifier: MIT
//
// The per-position formulas of SSIM, written once for the CPU and for CUDA. docs/derivation.md derives them; the
// equation numbers below are its own.
//
//     s = x + y,  d = x - y            the images' sum and difference
//     mu = G*s, sq = G*s^2             what the filter delivers, for s and for d
//     var = sq - mu^2
//
// This header includes nothing, so that NVRTC can compile it without the headers of a toolkit.
#pragma once

#if defined(FUSEDSSIM_DEVICE_CODE)
#define FUSEDSSIM_MATH __device__ __forceinline__
#define FUSEDSSIM_CONSTEXPR __device__ constexpr
#else
// Always inlined: the CPU kernels are compiled once per instruction set, and the linker must find no copy to merge.
#define FUSEDSSIM_MATH inline __attribute__((always_inline))
#define FUSEDSSIM_CONSTEXPR constexpr
#endif

namespace fusedssim {

#if defined(FUSEDSSIM_DEVICE_CODE)
// One unit in the last place, and a quarter of the time of the exactly rounded division, whose cost shows in a kernel
// that divides twice a position.
FUSEDSSIM_MATH float reciprocal(float v) {
    float r;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
    return r;
}
FUSEDSSIM_MATH double reciprocal(double v) { return 1.0 / v; }
#else
template <class A>
FUSEDSSIM_MATH A reciprocal(A v) {
    return A(1) / v;
}
#endif

// 2 C1 and 2 C2, as the sum/difference form wants them.
template <class A>
struct Stability {
    A c1x2, c2x2;
};

// The filtered quantities at one position.
template <class A>
struct Moments {
    A mu_s, mu_d, sq_s, sq_d;
};

// The derivatives of SSIM by the filtered statistics at one position.
template <class A>
struct Partials {
    A mu_s, mu_d, var_s, var_d;
};

// What both functions below start from. Negative variances are rounding, and are taken as 0: var_d then makes no
// contrast term exceed 1, var_s keeps its denominator positive for images far outside the data range.
template <class A>
struct Terms {
    A mu_s2, var_s;
    A inv1, inv2;  // 1 / D1, 1 / D2
    A var_d;
    A lum_deficit, cs_deficit;  // 1 - luminance, 1 - contrast * structure

    FUSEDSSIM_MATH Terms(const Moments<A>& m, const Stability<A>& c) {
        const A mu_d2 = m.mu_d * m.mu_d;
        const A raw_s = m.sq_s - (mu_s2 = m.mu_s * m.mu_s), raw_d = m.sq_d - mu_d2;
        var_s = raw_s > A(0) ? raw_s : A(0);
        var_d = raw_d > A(0) ? raw_d : A(0);
        inv1 = reciprocal(mu_s2 + mu_d2 + c.c1x2);
        inv2 = reciprocal(var_s + var_d + c.c2x2);
        lum_deficit = A(2) * mu_d2 * inv1;
        cs_deficit = A(2) * var_d * inv2;
    }

    // 1 - SSIM: sums of it keep their precision where images are nearly identical.
    FUSEDSSIM_MATH A deficit() const { return lum_deficit + cs_deficit - lum_deficit * cs_deficit; }
};

// 1 - SSIM at one position (eq. 4).
template <class A>
FUSEDSSIM_MATH A ssim_deficit(const Moments<A>& m, const Stability<A>& c) {
    return Terms<A>(m, c).deficit();
}

// 1 - SSIM and the partial derivatives of SSIM (eq. 5). Each product pairs a small factor with the large 1/D, so that
// no intermediate overflows where the result does not.
template <class A>
FUSEDSSIM_MATH A ssim_deficit_and_partials(const Moments<A>& m, const Stability<A>& c, Partials<A>& p) {
    const Terms<A> t(m, c);
    const A lum = A(1) - t.lum_deficit, cs = A(1) - t.cs_deficit;
    const A a = m.mu_d * t.inv1, l2 = A(2) * lum * t.inv2, ca = A(4) * cs * a;
    p.var_s = l2 * (t.var_d * t.inv2);
    p.var_d = -l2 * ((t.var_s + c.c2x2) * t.inv2);
    p.mu_s = ca * (a * m.mu_s) - A(2) * m.mu_s * p.var_s;
    p.mu_d = -ca * ((t.mu_s2 + c.c1x2) * t.inv1) - A(2) * m.mu_d * p.var_d;
    return t.deficit();
}

// How many partial maps are filtered to get `grads` (1 or 2) gradients: for one image the two that belong to mu add up
// before the filter (eq. 7), so that three maps do.
FUSEDSSIM_CONSTEXPR int filtered_maps(int grads) { return grads == 0 ? 0 : grads + 2; }

// The partials, in the order in which they are filtered; `maps` has filtered_maps(G) entries.
template <int G, class A>
FUSEDSSIM_MATH void pack_partials(const Partials<A>& p, A u, A* maps) {
    if (G == 1) {
        maps[0] = u * (p.mu_s + p.mu_d);
        maps[1] = u * p.var_s;
        maps[2] = u * p.var_d;
    } else {
        maps[0] = u * p.mu_s;
        maps[1] = u * p.var_s;
        maps[2] = u * p.var_d;
        maps[3] = u * p.mu_d;
    }
}

// The gradient by x (and by y if G is 2) from the filtered partials and the images' values at the same place (eq. 6).
template <int G, class A>
FUSEDSSIM_MATH void unpack_gradient(const A* filtered, A x, A y, A& grad_x, A& grad_y) {
    const A by_s = A(2) * (x + y) * filtered[1], by_d = A(2) * (x - y) * filtered[2];
    if (G == 1) {
        grad_x = filtered[0] + (by_s + by_d);
    } else {
        const A ds = filtered[0] + by_s, dd = filtered[3] + by_d;
        grad_x = ds + dd;
        grad_y = ds - dd;
    }
}

}  // namespace fusedssim
