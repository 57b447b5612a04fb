// SPDX-License-Identifier: MIT
#include "simulator.h"

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "core/dtype.h"
#include "fiber.h"

namespace simulator {

Index threadIdx, blockIdx, blockDim, gridDim;

namespace {

constexpr std::size_t kStackBytes = 256 * 1024;
constexpr unsigned kWarp = 32;

struct Thread {
    Fiber fiber;
    Reason waits_for;
    double shuffled;
};

// The threads of the block that runs, and more of them, which are kept for another block.
struct Block {
    std::vector<std::unique_ptr<Thread>> threads;
    unsigned running = 0;
    const Kernel* kernel = nullptr;
    const void* params = nullptr;
    std::mt19937 random{1};
} block;

void run_thread() {
    block.kernel->run(block.params);
    block.threads[block.running]->waits_for = Reason::end;
}

void resume(unsigned thread) {
    block.running = thread;
    threadIdx.x = thread;
    block.threads[thread]->waits_for = Reason::none;
    block.threads[thread]->fiber.resume();
}

[[noreturn]] void hang(const char* why, unsigned thread) {
    const auto reason = [](unsigned of) { return int(block.threads[of]->waits_for); };
    std::fprintf(stderr, "%s: block %u hangs, %s: thread 0 waits for %d, thread %u for %d\n", block.kernel->name,
                 blockIdx.x, why, reason(0), thread, reason(thread));
    std::abort();
}

// Lets those run on that wait for memory, until none does.
void resume_readers(unsigned threads) {
    constexpr int kMostRounds = 10000;
    for (int round = 0;; ++round) {
        unsigned reader = threads;
        for (unsigned i = 0; i < threads; ++i)
            if (block.threads[i]->waits_for == Reason::memory) {
                reader = i;
                resume(i);
            }
        if (reader == threads) return;
        if (round == kMostRounds) hang("nobody writes what is waited for", reader);
    }
}

void run_block(unsigned threads) {
    while (block.threads.size() < threads) block.threads.emplace_back(new Thread);
    for (unsigned i = 0; i < threads; ++i) block.threads[i]->fiber.restart(run_thread, kStackBytes);
    for (Reason reason = Reason::none; reason != Reason::end;) {
        // A random order costs more than the kernels do: a random beginning and a random direction.
        const unsigned first = unsigned(block.random() % threads);
        const bool backwards = block.random() % 2;
        for (unsigned i = 0; i < threads; ++i)
            resume(backwards ? (first + threads - i) % threads : (first + i) % threads);
        resume_readers(threads);
        reason = block.threads[0]->waits_for;
        for (unsigned i = 1; i < threads; ++i)
            if (block.threads[i]->waits_for != reason) hang("its threads wait for different things", i);
    }
}

}  // namespace

void wait(Reason reason) {
    Thread& thread = *block.threads[block.running];
    thread.waits_for = reason;
    thread.fiber.leave();
}

// The value of thread `from`, after all threads have given theirs.
double shuffle(double value, unsigned from) {
    block.threads[block.running]->shuffled = value;
    wait(Reason::shuffle);
    const double result = block.threads[from]->shuffled;
    wait(Reason::shuffle);
    return result;
}
double shuffle_down(double value, unsigned lanes) {
    const unsigned thread = block.running;
    return shuffle(value, thread % kWarp + lanes < kWarp ? thread + lanes : thread);
}
double shuffle_xor(double value, unsigned lanes) { return shuffle(value, block.running ^ lanes); }

float half_to_float(unsigned short bits) { return fusedssim::to_float(fusedssim::Float16{bits}); }
unsigned short float_to_half(float v) {
    fusedssim::Float16 out;
    fusedssim::from_float(v, out);
    return out.bits;
}

void run_grid(const Kernel& kernel, const void* params, Index grid, unsigned threads) {
    block.kernel = &kernel;
    block.params = params;
    gridDim = grid;
    blockDim = {threads, 1, 1};
    for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y)
        for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) run_block(threads);
}

}  // namespace simulator
