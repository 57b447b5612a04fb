// SPDX-License-Identifier: MIT
//
// The caller's structures: programs that were built with one version of fusedssim.h work with another version of the
// library. docs/abi.md says how structures of different sizes meet.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace fusedssim {

// The struct_size of a caller's structure, which this library knows to have `size` bytes.
std::uint32_t read_struct_size(const void* from, std::size_t size, const char* name);

// Copies *from, whose first member is its size, over *to: what `from` leaves out keeps the value it has in *to. `least`
// is the size below which a structure is refused; larger ones end with a field of 8 bytes.
void read_struct(void* to, std::size_t size, std::size_t least, const void* from, const char* name);

// Writes as much of `from` as the caller's structure has room for; its struct_size stays.
template <class T>
void write_struct(T* to, const T& from, const char* name) {
    const std::uint32_t struct_size = read_struct_size(to, sizeof from, name);
    std::memcpy(reinterpret_cast<char*>(to) + sizeof struct_size,
                reinterpret_cast<const char*>(&from) + sizeof struct_size,
                std::min<std::size_t>(struct_size, sizeof from) - sizeof struct_size);
}

}  // namespace fusedssim
