// SPDX-License-Identifier: MIT
//
// A libcuda.so.1 (on Windows: nvcuda.dll) with what the library asks of a driver: one device, whose memory is that of
// the host, and kernels by their names.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <mutex>

#include "simulator.h"

namespace {

constexpr int kSuccess = 0, kInvalidImage = 200, kNotFound = 500;
constexpr int kCapabilityMajor = 75, kCapabilityMinor = 76, kMultiprocessors = 16;  // CUdevice_attribute
int context, library;                                                               // somewhere to point to
std::mutex device;
void* last_stream = nullptr;
const simulator::Kernel* launched[1024];  // those that have been, each once; without memory that could run out
std::size_t launched_count = 0;

// The code is not run here, but it must be there: PTX, or an ELF file whose table of section names is where its header
// says, which it is only if all bytes are in their places.
bool is_device_code(const unsigned char* code) {
    if (*code == '/' || *code == '.') return true;
    if (std::memcmp(code, "\177ELF", 4)) return false;
    const auto number_at = [&](std::uint64_t at, std::size_t bytes) {
        std::uint64_t number = 0;
        std::memcpy(&number, code + at, bytes);
        return number;
    };
    const std::uint64_t headers = number_at(0x28, 8), names = headers + 64 * number_at(0x3e, 2);
    return !std::memcmp(code + number_at(names + 0x18, 8), "\0.shstrtab", 11);
}

}  // namespace

const simulator::Unit*& simulator::units() {
    static const Unit* first = nullptr;
    return first;
}

#if defined(_WIN32)
#define EXPORTED extern "C" __declspec(dllexport)
#else
#define EXPORTED extern "C" __attribute__((visibility("default")))
#endif
#define DRIVER_API EXPORTED int

DRIVER_API cuInit(unsigned) { return kSuccess; }
DRIVER_API cuDriverGetVersion(int* version) {
    *version = 13000;
    return kSuccess;
}
DRIVER_API cuGetErrorName(int, const char** text) {
    *text = "CUDA_ERROR_NOT_FOUND";
    return kSuccess;
}
DRIVER_API cuGetErrorString(int, const char** text) {
    *text = "named symbol not found";
    return kSuccess;
}
DRIVER_API cuDeviceGetCount(int* count) {
    *count = 1;
    return kSuccess;
}
DRIVER_API cuDeviceGet(int* id, int ordinal) {
    *id = ordinal;
    return kSuccess;
}
DRIVER_API cuDeviceGetName(char* name, int size, int) {
    std::snprintf(name, std::size_t(size), "simulated");
    return kSuccess;
}
DRIVER_API cuDeviceGetAttribute(int* value, int attribute, int) {
    *value = attribute == kCapabilityMajor   ? 9
             : attribute == kCapabilityMinor ? 0
             : attribute == kMultiprocessors ? 1
                                             : 0;
    return kSuccess;
}
DRIVER_API cuDeviceTotalMem_v2(std::size_t* bytes, int) {
    *bytes = std::size_t(1) << 30;
    return kSuccess;
}
DRIVER_API cuDevicePrimaryCtxRetain(void** current, int) {
    *current = &context;
    return kSuccess;
}
DRIVER_API cuCtxGetCurrent(void** current) {
    *current = &context;
    return kSuccess;
}
DRIVER_API cuCtxGetDevice(int* id) {
    *id = 0;
    return kSuccess;
}
DRIVER_API cuCtxPushCurrent_v2(void*) { return kSuccess; }
DRIVER_API cuCtxPopCurrent_v2(void** current) { return cuCtxGetCurrent(current); }
DRIVER_API cuThreadExchangeStreamCaptureMode(int*) { return kSuccess; }
DRIVER_API cuLibraryLoadData(void** loaded, const void* code, int*, void**, unsigned, int*, void**, unsigned) {
    if (!is_device_code(static_cast<const unsigned char*>(code))) return kInvalidImage;
    *loaded = &library;
    return kSuccess;
}
DRIVER_API cuLibraryGetKernel(const void** kernel, void*, const char* name) {
    for (const simulator::Unit* unit = simulator::units(); unit; unit = unit->next)
        for (const simulator::Kernel* each = unit->first; each != unit->first + unit->count; ++each)
            if (!std::strcmp(each->name, name)) {
                *kernel = each;
                return kSuccess;
            }
    return kNotFound;
}
// For tests: whether a kernel has been launched.
EXPORTED int simulated_launch(const char* name) {
    for (std::size_t i = 0; i < launched_count; ++i)
        if (!std::strcmp(launched[i]->name, name)) return true;
    return false;
}
DRIVER_API cuLaunchKernel(const void* kernel, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned, unsigned,
                          unsigned, void* stream, void** params, void**) {
    const std::lock_guard<std::mutex> lock(device);
    last_stream = stream;
    const auto& to_run = *static_cast<const simulator::Kernel*>(kernel);
    if (!simulated_launch(to_run.name)) launched[launched_count++] = &to_run;
    simulator::run_grid(to_run, params[0], {x, y, z}, threads);
    return kSuccess;
}

// For tests: the stream of the last launch.
EXPORTED void* simulated_stream() { return last_stream; }
