// SPDX-License-Identifier: MIT
//
// A thread of execution that runs when it is told to, until it gives control back. It runs `entry` from the beginning
// whenever it is restarted, and has to be at its end by then.
#pragma once

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
#else
#include <setjmp.h>
#include <ucontext.h>
#endif

#include <cstddef>
#include <memory>

namespace simulator {

#if defined(_WIN32)

class Fiber {
public:
    Fiber() = default;
    Fiber(const Fiber&) = delete;
    Fiber& operator=(const Fiber&) = delete;
    ~Fiber() {
        if (fiber_) DeleteFiber(fiber_);
    }

    void restart(void (*entry)(), std::size_t stack_bytes) {
        entry_ = entry;
        if (!fiber_) fiber_ = CreateFiberEx(0, stack_bytes, 0, &Fiber::run, this);
    }
    void resume() {
        caller_ = IsThreadAFiber() ? GetCurrentFiber() : ConvertThreadToFiber(nullptr);
        SwitchToFiber(fiber_);
    }
    void leave() { SwitchToFiber(caller_); }

private:
    static void CALLBACK run(void* self) {
        Fiber* const fiber = static_cast<Fiber*>(self);
        for (;;) {
            fiber->entry_();
            fiber->leave();
        }
    }
    void *fiber_ = nullptr, *caller_ = nullptr;
    void (*entry_)() = nullptr;
};

#else

// swapcontext() would do alone, but makes a call of the system at each switch: nine tenths of the time of all tests.
class Fiber {
public:
    Fiber() = default;
    Fiber(const Fiber&) = delete;
    Fiber& operator=(const Fiber&) = delete;

    void restart(void (*entry)(), std::size_t stack_bytes) {
        entry_ = entry;
        if (stack_) return;
        stack_.reset(new char[stack_bytes]);
        getcontext(&beginning_);
        beginning_.uc_stack.ss_sp = stack_.get();
        beginning_.uc_stack.ss_size = stack_bytes;
        makecontext(&beginning_, run, 0);
    }
    void resume() {
        if (_setjmp(caller_)) return;
        if (has_begun_) _longjmp(here_, 1);
        has_begun_ = true;
        beginning = this;
        setcontext(&beginning_);
    }
    void leave() {
        if (!_setjmp(here_)) _longjmp(caller_, 1);
    }

private:
    static void run() {
        Fiber* const fiber = beginning;
        for (;;) {
            fiber->entry_();
            fiber->leave();
        }
    }
    static inline thread_local Fiber* beginning = nullptr;  // makecontext() passes nothing but int
    std::unique_ptr<char[]> stack_;
    bool has_begun_ = false;
    ucontext_t beginning_;
    jmp_buf here_, caller_;
    void (*entry_)() = nullptr;
};

#endif

}  // namespace simulator
