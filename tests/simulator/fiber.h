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

class Fiber {
public:
    Fiber() = default;
    Fiber(const Fiber&) = delete;
    Fiber& operator=(const Fiber&) = delete;

    void restart(void (*entry)(), std::size_t stack_bytes) {
        if (!stack_) stack_.reset(new char[stack_bytes]);
        getcontext(&context_);
        context_.uc_stack.ss_sp = stack_.get();
        context_.uc_stack.ss_size = stack_bytes;
        context_.uc_link = &caller_;
        makecontext(&context_, entry, 0);
    }
    void resume() { swapcontext(&caller_, &context_); }
    void leave() { swapcontext(&context_, &caller_); }

private:
    std::unique_ptr<char[]> stack_;
    ucontext_t context_, caller_;
};

#endif

}  // namespace simulator
