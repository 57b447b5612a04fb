// SPDX-License-Identifier: MIT
//
// Runs kernels on the CPU, one block after the other. The threads of a block are fibers: one of them runs until it
// waits at a barrier or in a shuffle, then another. Their order changes from wait to wait, so that what lacks a barrier
// gives wrong results.
#pragma once

#include <cstddef>

namespace simulator {

struct Index {
    unsigned x = 0, y = 0, z = 0;
};
extern Index threadIdx, blockIdx, blockDim, gridDim;  // of the thread that runs

enum class Reason { none, barrier, shuffle, memory, end };

// Makes the calling thread wait: until all threads of the block wait for the same reason, or, for `memory`, until the
// other threads have run on. Where a GPU would hang, the program ends: if some threads wait for another reason or have
// ended, or if what is waited for is never written.
void wait(Reason reason);

// __shfl_down_sync of a whole warp.
double shuffle_down(double value, unsigned lanes);
double shuffle_xor(double value, unsigned lanes);  // __shfl_xor_sync

float half_to_float(unsigned short bits);
unsigned short float_to_half(float v);

// A kernel: its name, and how a thread of it is run with the parameters at an address. SIMULATOR_KERNEL makes one of an
// entry in the list of kernels (src/cuda/instances.h).
struct Kernel {
    const char* name;
    void (*run)(const void* params);
};
#define SIMULATOR_KERNEL(NAME, FAMILY, UNIT, PARAMS, TYPE, RADIUS, GRADS) \
    {#NAME, [](const void* params) { NAME(*static_cast<const PARAMS*>(params)); }},
// The kernels of a unit. The units are a list, into which each puts itself when the device is loaded.
struct Unit;
const Unit*& units();  // the first one
struct Unit {
    const Kernel* first;
    std::size_t count;
    const Unit* next;
    template <std::size_t N>
    explicit Unit(const Kernel (&all)[N]) : first(all), count(N), next(units()) {
        units() = this;
    }
};

void run_grid(const Kernel& kernel, const void* params, Index grid, unsigned threads);

}  // namespace simulator
