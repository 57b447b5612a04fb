// SPDX-License-Identifier: MIT
#include "platform.h"

#include <thread>

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
// After the types of windows.h.
#include <psapi.h>

#include <vector>
#else
#include <dlfcn.h>
#include <unistd.h>
#if defined(__linux__)
#include <sched.h>
#endif
#endif

namespace fusedssim::platform {

#if defined(_WIN32)

void* load_library(const char* name) {
    return reinterpret_cast<void*>(LoadLibraryExA(name, nullptr, LOAD_LIBRARY_SEARCH_DEFAULT_DIRS));
}

void* find_symbol(void* library, const char* name) {
    return reinterpret_cast<void*>(GetProcAddress(static_cast<HMODULE>(library), name));
}

void* find_symbol(const char* name) {
    std::vector<HMODULE> modules(256);
    for (;;) {
        DWORD bytes = 0;
        const DWORD room = DWORD(modules.size() * sizeof(HMODULE));
        if (!K32EnumProcessModules(GetCurrentProcess(), modules.data(), room, &bytes)) return nullptr;
        modules.resize(bytes / sizeof(HMODULE));
        if (bytes <= room) break;
    }
    for (const HMODULE module : modules)
        if (void* const symbol = find_symbol(module, name)) return symbol;
    return nullptr;
}

std::string file_of(const void* function) {
    HMODULE module = nullptr;
    constexpr DWORD kFlags = GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT;
    if (!GetModuleHandleExW(kFlags, static_cast<const wchar_t*>(function), &module)) return "";
    std::vector<wchar_t> wide(32768);  // the longest path that Windows knows
    const DWORD length = GetModuleFileNameW(module, wide.data(), DWORD(wide.size()));
    const auto convert = [&](char* to, int size) {
        return WideCharToMultiByte(CP_UTF8, 0, wide.data(), int(length), to, size, nullptr, nullptr);
    };
    std::string path(std::size_t(length ? convert(nullptr, 0) : 0), '\0');
    if (!path.empty()) convert(&path[0], int(path.size()));
    return path;
}

int available_cores() {
    DWORD_PTR own = 0, all = 0;  // both 0 if the process has threads in several groups of 64 cores
    if (GetProcessAffinityMask(GetCurrentProcess(), &own, &all) && own) {
        int cores = 0;
        for (; own; own &= own - 1) ++cores;
        return cores;
    }
    return int(GetActiveProcessorCount(ALL_PROCESSOR_GROUPS));
}

void wait_forever() {
    for (;;) Sleep(INFINITE);
}

#else

void* load_library(const char* name) { return dlopen(name, RTLD_NOW | RTLD_LOCAL); }

void* find_symbol(void* library, const char* name) { return dlsym(library, name); }

void* find_symbol(const char* name) { return dlsym(RTLD_DEFAULT, name); }

std::string file_of(const void* function) {
    Dl_info where;
    return dladdr(function, &where) && where.dli_fname ? where.dli_fname : "";
}

int available_cores() {
#if defined(__linux__)
    cpu_set_t set;  // of 1024: on larger machines the call fails
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
    return int(std::thread::hardware_concurrency());
}

void wait_forever() {
    for (;;) pause();
}

#endif

}  // namespace fusedssim::platform
