// SPDX-License-Identifier: MIT
//
// The threads of a call. They live no longer than it: nothing is left behind that a fork could break. Starting one
// costs some ten microseconds, which the number of threads accounts for.
#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace fusedssim::cpu {

// The cores that this process may run on, but no more than OMP_NUM_THREADS.
int default_threads();

// At most as many threads as are asked for (0: default_threads()) and as there are tasks, and no more than pays.
inline int thread_count(int asked, std::int64_t tasks, std::int64_t elements) {
    constexpr std::int64_t kElementsPerThread = 16384;  // about 100 microseconds of work
    const std::int64_t limit = std::min(tasks, std::max<std::int64_t>(1, elements / kElementsPerThread));
    return int(std::min<std::int64_t>(asked ? asked : default_threads(), limit));
}

// Runs work() on up to `threads` threads, the calling one included. Fails if work() does, and never else.
template <class Work>
void on_threads(int threads, Work&& work) {
    std::exception_ptr failure;
    std::mutex mutex;
    auto guarded = [&] {
        try {
            work();
        } catch (...) {
            const std::lock_guard<std::mutex> lock(mutex);
            failure = std::current_exception();
        }
    };
    std::vector<std::thread> others;
    while (int(others.size()) < threads - 1) {
        try {
            others.emplace_back(guarded);
        } catch (...) {
            break;  // the system has no more threads, or no memory for one: those that there are do the work
        }
    }
    guarded();
    for (std::thread& other : others) other.join();
    if (failure) std::rethrow_exception(failure);
}

}  // namespace fusedssim::cpu
