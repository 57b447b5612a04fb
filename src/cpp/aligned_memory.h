// SPDX-License-Identifier: MIT
//
// Memory of the host that begins where a cache line does, and a vector of any instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace fusedssim {

// Not by the aligned operator new: glibc keeps large memory for the next call of the same size, but not if it has been
// asked for an alignment. All pages would be new in each call, and cost more than what is done with them.
class AlignedMemory {
public:
    AlignedMemory() = default;
    explicit AlignedMemory(std::size_t bytes) : memory(new unsigned char[bytes + kAlignment - 1]) {}

    unsigned char* get() const {
        const auto address = reinterpret_cast<std::uintptr_t>(memory.get());
        return memory.get() + (kAlignment - address % kAlignment) % kAlignment;
    }

    static constexpr std::size_t kAlignment = 64;

private:
    std::unique_ptr<unsigned char[]> memory;
};

}  // namespace fusedssim
