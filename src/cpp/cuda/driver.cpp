// SPDX-License-Identifier: MIT
#include "cuda/driver.h"

#include <memory>
#include <mutex>
#include <string>
#include <type_traits>
#include <vector>

#include "error.h"
#include "platform.h"

namespace fusedssim::cuda {

namespace {

constexpr int kOldestDriver = 12000;  // the first CUDA version with cuLibraryLoadData: driver 525

struct LoadedDriver : Driver {
    std::string text;

    LoadedDriver() {
        load();
        problem = text.c_str();
    }

    void load() {
        void* const library = platform::load_library(platform::kCudaDriver);
        if (!library) {
            text = "no NVIDIA driver was found (" + std::string(platform::kCudaDriver) +
                   "): install one on a machine with an NVIDIA GPU, or use the CPU";
            return;
        }
        std::string missing;
        const auto find = [&](auto& function, const char* name) {
            void* const symbol = platform::find_symbol(library, name);
            if (!symbol && missing.empty()) missing = name;
            function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(symbol);
        };
        // If there are several versions of a function (_v2), the newest that a driver for CUDA 12.0 has.
        find(cuInit, "cuInit");
        find(cuDriverGetVersion, "cuDriverGetVersion");
        find(cuGetErrorName, "cuGetErrorName");
        find(cuGetErrorString, "cuGetErrorString");
        find(cuDeviceGetCount, "cuDeviceGetCount");
        find(cuDeviceGet, "cuDeviceGet");
        find(cuDeviceGetName, "cuDeviceGetName");
        find(cuDeviceGetAttribute, "cuDeviceGetAttribute");
        find(cuDeviceTotalMem, "cuDeviceTotalMem_v2");
        find(cuDevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain");
        find(cuCtxGetCurrent, "cuCtxGetCurrent");
        find(cuCtxGetDevice, "cuCtxGetDevice");
        find(cuCtxPushCurrent, "cuCtxPushCurrent_v2");
        find(cuCtxPopCurrent, "cuCtxPopCurrent_v2");
        find(cuThreadExchangeStreamCaptureMode, "cuThreadExchangeStreamCaptureMode");
        find(cuLibraryLoadData, "cuLibraryLoadData");
        find(cuLibraryGetKernel, "cuLibraryGetKernel");
        find(cuLaunchKernel, "cuLaunchKernel");
        if (cuDriverGetVersion) cuDriverGetVersion(&version);
        if (!missing.empty() && version >= kOldestDriver) {
            text = "the NVIDIA driver has no " + missing + ": install driver 525 or later";
            return;
        }
        if (version < kOldestDriver) {
            text = "the NVIDIA driver supports CUDA " + std::to_string(version / 1000) + "." +
                   std::to_string(version % 1000 / 10) + ", and 12.0 is needed: install driver 525 or later";
            return;
        }
        CUresult result = cuInit(0);
        if (result == kSuccess) result = cuDeviceGetCount(&device_count);
        if (result != kSuccess) {
            const char* words = nullptr;
            cuGetErrorString(result, &words);
            text = std::string("the NVIDIA driver cannot be used (") + (words ? words : "unknown error") +
                   "): check that nvidia-smi lists a GPU";
        } else if (device_count == 0) {
            text = "the NVIDIA driver sees no GPU: check CUDA_VISIBLE_DEVICES";
        }
    }
};

const Driver& loaded() {
    static const LoadedDriver* const driver = new LoadedDriver;  // not destroyed: see device_code.cpp
    return *driver;
}

// The primary context of a device, retained once for the life of the process.
CUcontext primary_context(const Driver& driver, int device_id) {
    static std::mutex mutex;
    static auto& contexts = *new std::vector<CUcontext>;
    const std::lock_guard<std::mutex> lock(mutex);
    if (contexts.empty()) contexts.resize(std::size_t(driver.device_count));
    CUcontext& context = contexts[std::size_t(device_id)];
    if (!context) {
        CUdevice device;
        check(driver, driver.cuDeviceGet(&device, device_id), "cuDeviceGet");
        check(driver, driver.cuDevicePrimaryCtxRetain(&context, device), "cuDevicePrimaryCtxRetain");
    }
    return context;
}

}  // namespace

const Driver& find_driver() { return loaded(); }

const Driver& require_driver() {
    const Driver& driver = find_driver();
    if (*driver.problem) fail(FUSEDSSIM_CUDA_UNAVAILABLE, "%s", driver.problem);
    return driver;
}

void check(const Driver& driver, CUresult result, const char* what) {
    if (result == kSuccess) return;
    const char *name = nullptr, *words = nullptr;
    driver.cuGetErrorName(result, &name);
    driver.cuGetErrorString(result, &words);
    fail(FUSEDSSIM_CUDA_ERROR, "%s: %s (%s, error %d)", what, words ? words : "unknown error", name ? name : "?",
         result);
}

ContextScope::ContextScope(const Driver& driver, int device_id) : driver_(driver) {
    if (device_id >= driver.device_count)
        fail(FUSEDSSIM_INVALID_ARGUMENT, "{exec.device_id} = %d, expected less than the %d devices there are",
             device_id, driver.device_count);
    CUcontext current = nullptr;
    check(driver, driver.cuCtxGetCurrent(&current), "cuCtxGetCurrent");
    if (current) {
        CUdevice device;
        check(driver, driver.cuCtxGetDevice(&device), "cuCtxGetDevice");
        if (device == device_id) return;
    }
    check(driver, driver.cuCtxPushCurrent(primary_context(driver, device_id)), "cuCtxPushCurrent");
    pushed_ = true;
}

ContextScope::~ContextScope() {
    CUcontext ignored;
    if (pushed_) driver_.cuCtxPopCurrent(&ignored);
}

}  // namespace fusedssim::cuda
