// SPDX-License-Identifier: MIT
#include "cpu/threads.h"

#include <cstdlib>

#include "platform.h"

namespace fusedssim::cpu {

namespace {

// The number of OMP_NUM_THREADS, or the first if it is a list with one for each level of nesting; 0 if there is none.
// Read once: another thread may change the environment later.
int wanted_threads() {
    static const int wanted = [] {
        const char* const text = std::getenv("OMP_NUM_THREADS");
        const long number = text ? std::strtol(text, nullptr, 10) : 0;
        return number > 0 && number < 65536 ? int(number) : 0;
    }();
    return wanted;
}

}  // namespace

int default_threads() {
    const int cores = std::max(1, platform::available_cores()), wanted = wanted_threads();
    return wanted > 0 ? std::min(cores, wanted) : cores;
}

}  // namespace fusedssim::cpu
