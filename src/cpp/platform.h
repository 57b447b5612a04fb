// SPDX-License-Identifier: MIT
//
// What differs between Linux, macOS and Windows at run time. Nobody else asks for the system.
#pragma once

#include <string>

namespace fusedssim::platform {

// The library of the CUDA driver, as the system's loader knows it.
#if defined(_WIN32)
constexpr char kCudaDriver[] = "nvcuda.dll";
#else
constexpr char kCudaDriver[] = "libcuda.so.1";
#endif

// Loads a library by its name, for the life of the process; NULL if there is none. On Windows it is looked for beside
// the program, in System32 and where AddDllDirectory says, but neither in PATH nor in the current folder.
void* load_library(const char* name);

// A function of a library; NULL if it has none of that name.
void* find_symbol(void* library, const char* name);

// A function of any library of this process; NULL if none has one of that name.
void* find_symbol(const char* name);

// The file that holds a function, in UTF-8; empty if the system does not tell.
std::string file_of(const void* function);

// How many cores the calling thread may run on: those of its affinity, which containers and job schedulers set, or all.
int available_cores();

// Keeps the calling thread for ever.
[[noreturn]] void wait_forever();

}  // namespace fusedssim::platform
