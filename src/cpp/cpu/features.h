// SPDX-License-Identifier: MIT
//
// Features of processors that kernels are compiled for, a bit each, and which of them can be used: the processor has
// them, and the system saves their registers. CPUID itself is asked, since __builtin_cpu_supports() needs a table of
// the compiler's run-time library, which not every compiler has (zig).
#pragma once

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace fusedssim::cpu {

enum Feature : unsigned {
    kAvx2 = 1u << 0,   // with FMA and F16C
    kAvx512 = 1u << 1  // F, BW, DQ and VL
};

#if defined(__x86_64__)
inline unsigned usable_features() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    constexpr unsigned kBasic = bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & kBasic) != kBasic) return 0;
    unsigned saved = 0, high = 0;  // the registers that the system saves when it switches between threads
    __asm__ volatile("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
    constexpr unsigned kYmm = 0x06, kZmm = 0xe6;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    constexpr unsigned k512 = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
    unsigned usable = 0;
    if ((b & bit_AVX2) != 0 && (saved & kYmm) == kYmm) usable |= kAvx2;
    if ((b & k512) == k512 && (saved & kZmm) == kZmm) usable |= kAvx512;
    return usable;
}
#else
inline unsigned usable_features() { return 0; }
#endif

}  // namespace fusedssim::cpu
