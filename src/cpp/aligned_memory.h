// SPDX-License-Identifier: MIT
//
// Memory of the host that begins where a cache line does, and a vector of any instruction set.
#pragma once

#include <cstddef>
#include <memory>
#include <new>

namespace fusedssim {

constexpr std::size_t kHostAlignment = 64;

struct AlignedDelete {
    void operator()(unsigned char* p) const { ::operator delete(p, std::align_val_t(kHostAlignment)); }
};
using AlignedMemory = std::unique_ptr<unsigned char, AlignedDelete>;

inline AlignedMemory allocate_aligned(std::size_t bytes) {
    return AlignedMemory(static_cast<unsigned char*>(::operator new(bytes, std::align_val_t(kHostAlignment))));
}

}  // namespace fusedssim
