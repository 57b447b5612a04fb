// SPDX-License-Identifier: MIT
#include "structs.h"

#include "error.h"

namespace fusedssim {

std::uint32_t read_struct_size(const void* from, std::size_t size, const char* name) {
    if (!from) fail(kInvalid, "{%s} is NULL", name);
    std::uint32_t given;
    std::memcpy(&given, from, sizeof given);
    if (given < 2 * sizeof given || given > 65536)
        fail(kInvalid, "{%s}.struct_size = %u, expected the size of the structure (%zu)", name, unsigned(given), size);
    return given;
}

void read_struct(void* to, std::size_t size, std::size_t least, const void* from, const char* name) {
    const std::uint32_t given = read_struct_size(from, size, name);
    if (given < least || given % 8)
        fail(kInvalid, "{%s}.struct_size = %u, expected the size of the structure (%zu)", name, unsigned(given), size);
    const auto* bytes = static_cast<const unsigned char*>(from);
    for (std::size_t i = size; i < given; ++i)
        if (bytes[i])
            fail(kInvalid, "{%s}.struct_size = %u: byte %zu is not zero, and this library knows only the first %zu",
                 name, unsigned(given), i, size);
    std::memcpy(to, from, std::min<std::size_t>(size, given));
}

}  // namespace fusedssim
