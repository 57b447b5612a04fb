// SPDX-License-Identifier: MIT
//
// Integer arithmetic for the host.
#pragma once

namespace fusedssim {

// In the wider of the two types.
template <class A, class B>
constexpr auto ceil_div(A a, B b) {
    return (a + b - 1) / b;
}
template <class A, class B>
constexpr auto round_up(A a, B b) {
    return ceil_div(a, b) * b;
}

}  // namespace fusedssim
