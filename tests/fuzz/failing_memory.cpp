// SPDX-License-Identifier: MIT
//
// operator new of the program and of the libraries that it loads, which fails when it is told to.
#include "failing_memory.h"

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace {

std::atomic<bool> is_on{false}, all_after{false}, has_failed{false};
std::atomic<int> left{0};

bool fails() {
    if (!is_on) return false;
    const int before = left.fetch_sub(1);
    if (before > 0 || (before < 0 && !all_after)) return false;
    has_failed = true;
    return true;
}

void* allocate(std::size_t size, std::size_t alignment) {
    if (fails()) throw std::bad_alloc();
    void* memory = nullptr;
    if (alignment <= alignof(std::max_align_t))
        memory = std::malloc(size ? size : 1);
    else if (posix_memalign(&memory, alignment, size ? size : 1))
        memory = nullptr;
    if (!memory) throw std::bad_alloc();
    return memory;
}

}  // namespace

namespace fuzz {

void fail_memory(int allocations, bool all) {
    left = allocations;
    all_after = all;
    has_failed = false;
    is_on = allocations >= 0;
}

bool mend_memory() {
    is_on = false;
    return has_failed;
}

}  // namespace fuzz

void* operator new(std::size_t size) { return allocate(size, 1); }
void* operator new[](std::size_t size) { return allocate(size, 1); }
void* operator new(std::size_t size, std::align_val_t to) { return allocate(size, std::size_t(to)); }
void* operator new[](std::size_t size, std::align_val_t to) { return allocate(size, std::size_t(to)); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
