// SPDX-License-Identifier: MIT
//
// Memory of the host that begins where a cache line does, and a vector of any instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace fusedssim {

// Aligned here and not by operator new: glibc keeps large memory for the next call that asks for as much, but not what
// it has aligned. All pages would be new in each call, and cost more than what is done with them.
class AlignedMemory {
public:
    static constexpr std::size_t kAlignment = 64;

    AlignedMemory() = default;
    explicit AlignedMemory(std::size_t bytes) : memory(new unsigned char[bytes + kAlignment - 1]) {}

    unsigned char* get() const {
        const auto address = reinterpret_cast<std::uintptr_t>(memory.get());
        return memory.get() + (kAlignment - address % kAlignment) % kAlignment;
    }

private:
    std::unique_ptr<unsigned char[]> memory;
};

}  // namespace fusedssim
