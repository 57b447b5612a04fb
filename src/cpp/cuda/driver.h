// SPDX-License-Identifier: MIT
//
// The CUDA driver. It is loaded by name at the first call, so the library also loads on machines without a driver. No
// CUDA header is needed to build: what is used is declared here, under the driver's own names and with its values.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fusedssim::cuda {

using CUresult = int;
using CUdevice = int;
using CUcontext = struct CUctx_st*;
using CUstream = struct CUstream_st*;
using CUlibrary = struct CUlib_st*;
using CUkernel = struct CUkern_st*;
using CUfunction = struct CUfunc_st*;

constexpr CUresult kSuccess = 0;
constexpr int kMultiprocessorCount = 16, kComputeCapabilityMajor = 75,
              kComputeCapabilityMinor = 76;  // CUdevice_attribute
constexpr int kCaptureModeRelaxed = 2;       // CUstreamCaptureMode

struct Driver {
    CUresult (*cuInit)(unsigned);
    CUresult (*cuDriverGetVersion)(int*);
    CUresult (*cuGetErrorName)(CUresult, const char**);
    CUresult (*cuGetErrorString)(CUresult, const char**);
    CUresult (*cuDeviceGetCount)(int*);
    CUresult (*cuDeviceGet)(CUdevice*, int);
    CUresult (*cuDeviceGetName)(char*, int, CUdevice);
    CUresult (*cuDeviceGetAttribute)(int*, int, CUdevice);
    CUresult (*cuDeviceTotalMem)(std::size_t*, CUdevice);
    CUresult (*cuDevicePrimaryCtxRetain)(CUcontext*, CUdevice);
    CUresult (*cuCtxGetCurrent)(CUcontext*);
    CUresult (*cuCtxGetDevice)(CUdevice*);
    CUresult (*cuCtxPushCurrent)(CUcontext);
    CUresult (*cuCtxPopCurrent)(CUcontext*);
    CUresult (*cuThreadExchangeStreamCaptureMode)(int*);
    CUresult (*cuLibraryLoadData)(CUlibrary*, const void*, int*, void**, unsigned, int*, void**, unsigned);
    CUresult (*cuLibraryGetKernel)(CUkernel*, CUlibrary, const char*);
    CUresult (*cuLaunchKernel)(CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                               CUstream, void**, void**);

    int version = 0;  // the CUDA version that the driver supports, 12080 for 12.8; 0 without a driver
    int device_count = 0;
    const char* problem = "";  // why CUDA cannot be used, and what to do; empty if it can
};

// The driver, loaded and initialised by the first call. Never fails: look at `problem`.
const Driver& find_driver();

// The driver; fails with its problem.
const Driver& require_driver();

// Fails with the driver's own words unless result is kSuccess.
void check(const Driver& driver, CUresult result, const char* what);

// Makes a context of a device current while it lives: the current one if it is of that device, else the primary one.
class ContextScope {
public:
    ContextScope(const Driver& driver, int device_id);
    ~ContextScope();
    ContextScope(const ContextScope&) = delete;
    ContextScope& operator=(const ContextScope&) = delete;

private:
    const Driver& driver_;
    bool pushed_ = false;
};

}  // namespace fusedssim::cuda
