// SPDX-License-Identifier: MIT
//
// The per-position formulas of SSIM, written once for the CPU and for CUDA. docs/derivation.md derives them; the
// equation numbers below are its own.
//
//     s = x + y,  d = x - y              the images' sum and difference
//     s' = s - c, d' = d - e             without a pivot (c, e), levels near theirs
//     m = G*s', G*d', G*(s'^2 + d'^2)    what the filter delivers
//     mu = m + c, var = G*s'^2 - m^2     and what it means: a pivot changes no variance, and saves float32 the digits
//                                        that a bright, flat image would cost
//
// This header includes nothing: NVRTC compiles it without the headers of a toolkit.
#pragma once

#if defined(FUSEDSSIM_DEVICE_CODE)
#define FUSEDSSIM_MATH __device__ __forceinline__
#define FUSEDSSIM_CONSTEXPR __device__ constexpr
#else
// Always inlined: the CPU kernels are compiled once per instruction set, and the linker must find no copy to merge.
#define FUSEDSSIM_MATH inline __attribute__((always_inline))
#define FUSEDSSIM_CONSTEXPR constexpr __attribute__((always_inline))
#endif

namespace fusedssim {

#if defined(FUSEDSSIM_DEVICE_CODE)
// Off by at most one unit in the last place. The exactly rounded division takes four times as long, which shows in a
// kernel with two divisions per position.
FUSEDSSIM_MATH float reciprocal(float v) {
    float r;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
    return r;
}
FUSEDSSIM_MATH double reciprocal(double v) { return 1.0 / v; }
FUSEDSSIM_MATH double not_a_number() { return __longlong_as_double(0x7ff8000000000000ll); }
#else
FUSEDSSIM_MATH double not_a_number() { return __builtin_nan(""); }
template <class A>
FUSEDSSIM_MATH A reciprocal(A v) {
    return A(1) / v;
}
#endif

// The larger of v and `least`; `least` if v is NaN.
template <class A>
FUSEDSSIM_MATH A at_least(A v, A least) {
    return v > least ? v : least;
}
#if defined(FUSEDSSIM_DEVICE_CODE)
// One instruction. Compilers make two of the comparison.
FUSEDSSIM_MATH float at_least(float v, float least) {
    float r;
    asm("max.f32 %0, %1, %2;" : "=f"(r) : "f"(v), "f"(least));
    return r;
}
#endif

// v between 0 and 1; 0 if v is NaN.
template <class A>
FUSEDSSIM_MATH A saturated(A v) {
    const A positive = at_least(v, A(0));
    return positive < A(1) ? positive : A(1);
}
#if defined(FUSEDSSIM_DEVICE_CODE)
// Free: the instruction before does it.
FUSEDSSIM_MATH float saturated(float v) { return __saturatef(v); }
#endif

// The larger of v and 0; NaN stays NaN.
template <class A>
FUSEDSSIM_MATH A not_negative(A v) {
    return v < A(0) ? A(0) : v;
}
#if defined(FUSEDSSIM_DEVICE_CODE)
#if __CUDA_ARCH__ >= 800
FUSEDSSIM_MATH float not_negative(float v) {
    asm("max.NaN.f32 %0, %0, 0f00000000;" : "+f"(v));
    return v;
}
#endif
#endif

// 1 - 2 v.
template <class A>
FUSEDSSIM_MATH A one_minus_twice(A v) {
    return A(1) - A(2) * v;
}
#if defined(FUSEDSSIM_DEVICE_CODE)
// One multiply-add. It cannot take two constants, and compilers write two additions rather than load one of them.
FUSEDSSIM_MATH float one_minus_twice(float v) {
    float r;
    asm("{ .reg .f32 one; mov.f32 one, 0f3F800000; fma.rn.f32 %0, %1, 0fC0000000, one; }" : "=f"(r) : "f"(v));
    return r;
}
#endif

// 2 C1 and 2 C2, as the sum/difference form wants them.
template <class A>
struct Stability {
    A c1x2, c2x2;
};

template <class A>
FUSEDSSIM_MATH bool is_finite(A v) {
    return A(0) * v == A(0);
}
FUSEDSSIM_MATH bool is_positive(double v) { return v > 0 && is_finite(v); }  // and finite

// 2 (k L)^2, of data range L. With k = 0, flat images would have 0 / 0 in a factor, which is to count as 1. So a
// constant of 0 becomes one that is so small that it changes the bits of no other denominator: in float32, of images
// whose mean is above 4e-12 L and 1e-13. Its reciprocal, times any usual weight, is finite.
template <class A>
FUSEDSSIM_MATH A constant_of(double k, double data_range) {
    constexpr bool kIsFloat = sizeof(A) == 4;
    constexpr double kTiny = kIsFloat ? 0x1p-50 : 0x1p-200, kLeast = kIsFloat ? 0x1p-110 : 0x1p-900;
    const double c = (k == 0 ? kTiny : k) * data_range, twice_squared = 2 * c * c;
    return A(k == 0 && twice_squared < kLeast ? kLeast : twice_squared);
}

// The constants of images of a data range; NaN if it is not a positive number.
template <class A>
FUSEDSSIM_MATH Stability<A> stability_of(double k1, double k2, double data_range) {
    const double range = is_positive(data_range) ? data_range : not_a_number();
    return {constant_of<A>(k1, range), constant_of<A>(k2, range)};
}

// What is subtracted from s and d before they are filtered. Any numbers will do, but the nearer they are to the local
// means, the more digits are left for variances. Both are finite. Where d is small beside C2, its pivot is 0: so d
// stays the exact difference of similar images, and 0 where they are equal.
template <class A>
struct Pivot {
    A s, d;
};
// Whether a d of this level has no pivot: the error that one would save is below that of 1 / D2.
template <class A>
FUSEDSSIM_MATH bool is_small_beside(A d, A c2x2) {
    return d * d < c2x2 / A(8);
}

// The filtered quantities at one position, of s' and d'. `sq` also holds 2 C2: then it costs nothing.
template <class A>
struct Moments {
    A m_s, m_d;  // G*s', G*d'
    A sq;        // G*(s'^2 + d'^2) + 2 C2
    A sq_d;      // G*d'^2
};

// What the filter along the last axis begins with instead of zeros. `rest` is what the window's mass, over all axes,
// lacks to be 1: the missing mass sees an s and a d of 0, whose s' and d' are -c and -e. So m and var are exact for
// any taps (eq. 13).
template <class A>
FUSEDSSIM_MATH Moments<A> moments_begin(const Pivot<A>& pivot, A rest, A c2x2) {
    const A of_d = rest * pivot.d;
    return {-rest * pivot.s, -of_d, rest * pivot.s * pivot.s + (of_d * pivot.d + c2x2), of_d * pivot.d};
}

// Turns sums over a window under a mask into its moments: divides them by the window's mass (eq. 9). Here `sq` comes
// without 2 C2, and gets it. Returns the reciprocal mass. A window without mass has no statistics: all is 0.
template <class A>
FUSEDSSIM_MATH A normalize(Moments<A>& m, A mass, A c2x2) {
    const A u = mass > A(0) ? reciprocal(mass) : A(0);
    m = {u * m.m_s, u * m.m_d, u * m.sq + c2x2, u * m.sq_d};
    return u;
}

constexpr double kGradientFactor = 4;  // see dssim_and_partials()

// What dssim() and dssim_and_partials() start from. Variances are negative by rounding alone, and count as 0 then. So
// the denominator of the contrast term stays positive for images far outside the data range, and b between 0 and 1.
template <class A>
struct Terms {
    A inv2;  // 1 / D2
    A a;     // mu_d / D1
    A t, b;  // mu_d^2 / D1 and var_d / D2: the luminance is 1 - 2t, contrast times structure 1 - 2b
    A lum;   // luminance

    template <class C>
    FUSEDSSIM_MATH Terms(const Moments<A>& m, const Pivot<A>& pivot, const C& c) {
        const A mu_s = m.m_s + pivot.s, mu_d = m.m_d + pivot.d;
        inv2 = reciprocal(at_least(m.sq - m.m_s * m.m_s - m.m_d * m.m_d, A(c.c2x2)));
        a = mu_d * reciprocal(mu_s * mu_s + (mu_d * mu_d + c.c1x2));
        t = mu_d * a;
        b = saturated((m.sq_d - m.m_d * m.m_d) * inv2);
        lum = one_minus_twice(t);
    }
    FUSEDSSIM_MATH A dssim() const { return t + b * lum; }
};

// DSSIM = (1 - SSIM) / 2 at one position (eq. 4). Kernels sum it instead of SSIM: the sum of small numbers keeps its
// precision for images that are nearly identical. It is >= 0, but that for x close to -y rounding can make it slightly
// negative: ssim_from_dssim() and reduced_value() take care of it. C: Stability<A>, or volatile where it is to be read
// when it is used.
template <class A, class C = Stability<A>>
FUSEDSSIM_MATH A dssim(const Moments<A>& m, const Pivot<A>& pivot, const C& c) {
    return Terms<A>(m, pivot, c).dssim();
}
template <class A>
FUSEDSSIM_MATH A ssim_from_dssim(A v) {
    return one_minus_twice(not_negative(v));
}

// How many partial maps are filtered to get so many gradients. Two gradients take four. For one, the two maps that
// belong to mu are added before the filter (eq. 7), and three are enough.
FUSEDSSIM_CONSTEXPR int filtered_maps(int grads) { return grads == 0 ? 0 : grads + 2; }

// DSSIM, and the partial derivatives of SSIM times u (eq. 5) in the order in which they are filtered: `maps` has
// filtered_maps(G) entries. Each product pairs a small factor with the large 1/D: no intermediate result overflows if
// the final one does not. `beyond_s` and `beyond_d` are mu less the pivot that unpack_gradient() will get, which may be
// another one than that of the statistics. `of_variances` multiplies the derivatives by variances: 1 in the gradient of
// the value (Problem::variance_grad_scale).
//
// The derivatives are scaled: those by mu_s and mu_d (at fixed sq) are stored divided by 4, those by var_s and var_d
// divided by 2. So the formulas need no constants. The common factor 4, kGradientFactor, is applied once, to the
// gradient (eq. 5 and 6).
template <int G, class A, class C = Stability<A>>
FUSEDSSIM_MATH A dssim_and_partials(const Moments<A>& m, const Pivot<A>& pivot, const C& c, A u, A beyond_s, A beyond_d,
                                    A* maps, A of_variances = A(1)) {
    const Terms<A> k(m, pivot, c);
    const A cs = one_minus_twice(k.b), mu_s = m.m_s + pivot.s;
    const A l2 = of_variances * (u * (k.lum * k.inv2)), ca = u * (cs * k.a);
    const A var_s = l2 * k.b, var_d = var_s - l2;
    if (G == 1) {
        maps[0] = ca * (mu_s * k.a + (k.t - A(1))) - beyond_s * var_s - beyond_d * var_d;
    } else {
        maps[0] = mu_s * (ca * k.a) - beyond_s * var_s;
        maps[3] = (ca * k.t - ca) - beyond_d * var_d;
    }
    maps[1] = var_s;
    maps[2] = var_d;
    return k.dssim();
}
template <int G, class A, class C = Stability<A>>
FUSEDSSIM_MATH A dssim_and_partials(const Moments<A>& m, const Pivot<A>& pivot, const C& c, A u, A* maps,
                                    A of_variances = A(1)) {
    return dssim_and_partials<G>(m, pivot, c, u, m.m_s, m.m_d, maps, of_variances);
}

// The gradient by x (and by y if G is 2), over kGradientFactor, from the filtered partials and the images' values at
// the same place (eq. 6), or from s' and d' there. The pivot is that of the partials.
template <int G, class A>
FUSEDSSIM_MATH void unpack_gradient(const A* filtered, A s, A d, A& grad_x, A& grad_y) {
    if (G == 1) {
        grad_x = filtered[0] + s * filtered[1] + d * filtered[2];
    } else {
        const A by_s = filtered[0] + s * filtered[1], by_d = filtered[3] + d * filtered[2];
        grad_x = by_s + by_d;
        grad_y = by_s - by_d;
    }
}

template <int G, class A>
FUSEDSSIM_MATH void unpack_gradient(const A* filtered, A x, A y, const Pivot<A>& pivot, A& grad_x, A& grad_y) {
    unpack_gradient<G>(filtered, (x + y) - pivot.s, (x - y) - pivot.d, grad_x, grad_y);
}

// A value times the weight that a mask gives it. A weight of 0 gives 0: what a mask excludes is never looked at, and
// may be NaN or infinite.
template <class A>
FUSEDSSIM_MATH A weighted(A weight, A value) {
    return weight != A(0) ? weight * value : A(0);
}

// The value of one element of the map. `one` is the SSIM of equal images, 1; dssim and l1, which is |x - y|, are those
// of the element. If a caller has multiplied all three by a mask, it gets the value times the mask.
template <class A>
FUSEDSSIM_MATH A map_value(bool is_loss, A ssim_weight, A l1_weight, A one, A dssim, A l1) {
    const A positive = not_negative(dssim);
    if (!is_loss) return one - A(2) * positive;
    const A by_l1 = l1_weight * l1;
    return A(-2) * ssim_weight * positive + by_l1;
}

// The derivative of |d| times a factor: the factor with the sign of d, 0 where d is 0. NaN stays NaN.
template <class A>
FUSEDSSIM_MATH A l1_derivative(A factor, A d) {
    return d > A(0) ? factor : d < A(0) ? -factor : d;
}

// How the sums of a group become its value.
struct Reduction {
    int is_mean;
    int is_loss;                    // the value of equal images is 0 instead of 1
    double ssim_weight, l1_weight;  // of SSIM (1, or -lambda in a loss) and of |x - y|
};

// The value of a group from its sums of DSSIM and |x - y|. map_elements and image_elements count the terms of these
// sums, or are the sums of the mask. Divides instead of multiplying by a reciprocal, since 49 * (1 / 49.0) is not 1.
FUSEDSSIM_MATH double reduced_value(const Reduction& r, double dssim, double l1, double map_elements,
                                    double image_elements) {
    dssim = not_negative(dssim);
    if (r.is_mean) {
        dssim /= map_elements;
        l1 /= image_elements;
    }
    const double base = r.is_loss ? 0 : r.is_mean ? 1 : map_elements;
    const double ssim = base - 2 * r.ssim_weight * dssim;
    return r.l1_weight != 0 ? ssim + r.l1_weight * l1 : ssim;
}

}  // namespace fusedssim
