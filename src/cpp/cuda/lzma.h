// SPDX-License-Identifier: MIT
//
// LZMA, in which the images of device code are packed: a ninth of their size, less than half of what Deflate leaves.
#pragma once

#include <cstddef>

namespace fusedssim::cuda {

// Unpacks a raw stream of LZMA into memory of the size of what was packed. Its literals have no context but their place
// in an instruction of 16 bytes: lc = 0, lp = pb = 4, as pack_image() in cmake/device_code.py writes it. Returns
// whether this was such a stream.
bool unpack_lzma(const unsigned char* packed, std::size_t packed_size, unsigned char* out, std::size_t size);

}  // namespace fusedssim::cuda
