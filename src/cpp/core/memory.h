// SPDX-License-Identifier: MIT
//
// Memory of the host that begins where a cache line does, and a vector of any instruction set.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace fusedssim {

// Aligned here and not by operator new: glibc keeps large memory for the next call that asks for as much, but not what
// it has aligned. All pages would be new in each call, and cost more than what is done with them.
class AlignedMemory {
public:
    static constexpr std::size_t kAlignment = 64;

    explicit AlignedMemory(std::size_t bytes) : memory(new unsigned char[bytes + kAlignment - 1]) {}

    unsigned char* get() const {
        const auto address = reinterpret_cast<std::uintptr_t>(memory.get());
        return memory.get() + (kAlignment - address % kAlignment) % kAlignment;
    }

private:
    std::unique_ptr<unsigned char[]> memory;
};

// The same, and up to 64 MB of it stay for the next call that asks for no more: one block in a process. What is given
// back to the system is new pages in each call, and glibc gives back what lies at the end of its heap, or is large.
class KeptMemory {
public:
    explicit KeptMemory(std::size_t bytes) : block(spare().exchange(nullptr)) {
        if (block && block->bytes >= bytes) return;
        block.reset();
        block = std::make_unique<Block>(bytes);
    }
    KeptMemory(const KeptMemory&) = delete;
    KeptMemory& operator=(const KeptMemory&) = delete;
    ~KeptMemory() {
        constexpr std::size_t kMost = std::size_t(64) << 20;
        if (block && block->bytes <= kMost) block.reset(spare().exchange(block.release()));
    }

    unsigned char* get() const { return block->memory.get(); }

private:
    struct Block {
        std::size_t bytes;
        AlignedMemory memory;
        explicit Block(std::size_t size) : bytes(size), memory(size) {}
    };
    static std::atomic<Block*>& spare() {
        static std::atomic<Block*> kept{nullptr};
        return kept;
    }
    std::unique_ptr<Block> block;
};

}  // namespace fusedssim
