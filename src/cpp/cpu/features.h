// SPDX-License-Identifier: MIT
//
// Which of the instruction sets the processor has and the system lets programs use. CPUID itself is asked, since
// __builtin_cpu_supports() looks into a table of the compiler's run-time library, which not every compiler has (zig).
#pragma once

#include <cpuid.h>

namespace fusedssim::cpu {

struct Features {
    bool avx2 = false;    // with FMA and F16C
    bool avx512 = false;  // F, BW, DQ and VL, with all that avx2 stands for
};

inline Features features() {
    Features result;
    unsigned a = 0, b = 0, c = 0, d = 0;
    constexpr unsigned kBasic = bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & kBasic) != kBasic) return result;
    unsigned saved = 0, high = 0;  // the registers that the system saves when it switches between threads
    __asm__ volatile("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
    constexpr unsigned kYmm = 0x06, kZmm = 0xe6;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return result;
    constexpr unsigned k512 = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
    result.avx2 = (b & bit_AVX2) != 0 && (saved & kYmm) == kYmm;
    result.avx512 = result.avx2 && (b & k512) == k512 && (saved & kZmm) == kZmm;
    return result;
}

}  // namespace fusedssim::cpu
