// SPDX-License-Identifier: MIT
#include "cpu/threads.h"

#include <cstdlib>

#if defined(__linux__)
#include <sched.h>
#endif

namespace fusedssim::cpu {

namespace {

// Those of the calling thread's affinity, which containers and job schedulers set; or all.
int available_cores() {
#if defined(__linux__)
    cpu_set_t set;  // of 1024: on larger machines the call fails
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
    return int(std::thread::hardware_concurrency());
}

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
    const int cores = std::max(1, available_cores()), wanted = wanted_threads();
    return wanted > 0 ? std::min(cores, wanted) : cores;
}

}  // namespace fusedssim::cpu
