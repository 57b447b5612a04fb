// SPDX-License-Identifier: MIT
//
// lzma_test <packed file> <size> <file to write>: unpacks; 2 if that is no stream of so many bytes. For lzma_test.py.
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <vector>

#include "cuda/lzma.h"

int main(int count, char** arguments) {
    if (count != 4) return 1;
    std::ifstream in(arguments[1], std::ios::binary);
    const std::vector<char> packed(std::istreambuf_iterator<char>(in), {});
    std::vector<char> out(std::strtoull(arguments[2], nullptr, 10));
    if (!fusedssim::cuda::unpack_lzma(reinterpret_cast<const unsigned char*>(packed.data()), packed.size(),
                                      reinterpret_cast<unsigned char*>(out.data()), out.size()))
        return 2;
    std::ofstream(arguments[3], std::ios::binary).write(out.data(), std::streamsize(out.size()));
    return 0;
}
