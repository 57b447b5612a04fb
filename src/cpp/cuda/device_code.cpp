// SPDX-License-Identifier: MIT
#include "cuda/device_code.h"

#include <atomic>
#include <cstring>
#include <mutex>
#include <string>

#include "device_code_index.h"  // generated: kImages and kCompiler
#include "error.h"
#include "instances.h"

// The images as they were packed at build time.
asm(".section .rodata, \"a\", @progbits\n"
    ".balign 64\n"
    ".global fusedssim_device_code\n"
    ".hidden fusedssim_device_code\n"
    "fusedssim_device_code:\n"
    ".incbin \"" FUSEDSSIM_DEVICE_CODE_BIN
    "\"\n"
    ".byte 0\n"
    ".previous\n");
extern "C" const unsigned char fusedssim_device_code[];

namespace fusedssim::cuda {

namespace {

struct Kernel {
    Family family;
    Element element;
    int radius, grads;
    const char* unit;
    const char* name;
};

#define FUSEDSSIM_TILED(FAMILY, UNIT, TYPE, RADIUS, GRADS) \
    {Family::FAMILY, Element::TYPE, RADIUS, GRADS, UNIT, #FAMILY "_" #TYPE "_r" #RADIUS "_g" #GRADS},
#define FUSEDSSIM_SSIM2D(TYPE, RADIUS, GRADS) FUSEDSSIM_TILED(ssim2d, "ssim2d", TYPE, RADIUS, GRADS)
#define FUSEDSSIM_SSIM2D_NORMALIZED(TYPE, RADIUS, GRADS) \
    FUSEDSSIM_TILED(ssim2d_normalized, "ssim2d", TYPE, RADIUS, GRADS)
#define FUSEDSSIM_SSIM3D_FORWARD(TYPE, RADIUS, GRADS) FUSEDSSIM_TILED(ssim3d_forward, "ssim3d", TYPE, RADIUS, GRADS)
#define FUSEDSSIM_SSIM3D_NORMALIZED(TYPE, RADIUS, GRADS) \
    FUSEDSSIM_TILED(ssim3d_forward_normalized, "ssim3d", TYPE, RADIUS, GRADS)
#define FUSEDSSIM_SSIM3D_BACKWARD(TYPE, RADIUS, GRADS) FUSEDSSIM_TILED(ssim3d_backward, "ssim3d", TYPE, RADIUS, GRADS)
#define FUSEDSSIM_SMALL(FAMILY, TYPE) {Family::FAMILY, Element::TYPE, 0, 0, "reduce", #FAMILY "_" #TYPE},
#define FUSEDSSIM_REDUCE(TYPE) FUSEDSSIM_SMALL(reduce_sums, TYPE)
#define FUSEDSSIM_SUM_MASK(TYPE) FUSEDSSIM_SMALL(sum_mask, TYPE)
#define FUSEDSSIM_REDUCE_MASK(TYPE) FUSEDSSIM_SMALL(reduce_mask, TYPE)
#define FUSEDSSIM_SCALE(TYPE) FUSEDSSIM_SMALL(scale, TYPE)
#define FUSEDSSIM_POOL(TYPE) FUSEDSSIM_SMALL(pool, TYPE)
#define FUSEDSSIM_COMBINE(TYPE) FUSEDSSIM_SMALL(combine, TYPE)
constexpr Kernel kKernels[] = {FUSEDSSIM_SSIM2D_KERNELS(FUSEDSSIM_SSIM2D)                        //
                               FUSEDSSIM_SSIM2D_NORMALIZED_KERNELS(FUSEDSSIM_SSIM2D_NORMALIZED)  //
                               FUSEDSSIM_SSIM3D_FORWARD_KERNELS(FUSEDSSIM_SSIM3D_FORWARD)        //
                               FUSEDSSIM_SSIM3D_NORMALIZED_KERNELS(FUSEDSSIM_SSIM3D_NORMALIZED)  //
                               FUSEDSSIM_SSIM3D_BACKWARD_KERNELS(FUSEDSSIM_SSIM3D_BACKWARD)      //
                               FUSEDSSIM_REDUCE_KERNELS(FUSEDSSIM_REDUCE)                        //
                               FUSEDSSIM_SUM_MASK_KERNELS(FUSEDSSIM_SUM_MASK)                    //
                               FUSEDSSIM_REDUCE_MASK_KERNELS(FUSEDSSIM_REDUCE_MASK)              //
                               FUSEDSSIM_SCALE_KERNELS(FUSEDSSIM_SCALE)                          //
                               FUSEDSSIM_POOL_KERNELS(FUSEDSSIM_POOL)                            //
                               FUSEDSSIM_COMBINE_KERNELS(FUSEDSSIM_COMBINE)};

constexpr std::size_t kKernelCount = sizeof kKernels / sizeof *kKernels;
constexpr std::size_t kImageCount = sizeof kImages / sizeof *kImages;

// The image of a unit that serves a device: of the same major capability the highest minor one that is not above the
// device's, else the highest PTX that is not.
const ImageEntry* best_image(const char* unit, int capability) {
    const ImageEntry* best = nullptr;
    const auto consider = [&](const ImageEntry& image) {
        if (!best || image.cc > best->cc) best = &image;
    };
    for (const ImageEntry& image : kImages)
        if (!std::strcmp(image.unit, unit) && !image.ptx && image.cc / 10 == capability / 10 && image.cc <= capability)
            consider(image);
    if (best) return best;
    for (const ImageEntry& image : kImages)
        if (!std::strcmp(image.unit, unit) && image.ptx && image.cc <= capability) consider(image);
    return best;
}

// Libraries and kernels live as long as the process, in whatever contexts use them.
struct Loaded {
    std::mutex mutex;
    CUlibrary libraries[kImageCount] = {};
    std::atomic<CUkernel> kernels[kImageCount][kKernelCount] = {};
};
Loaded& loaded() {
    static Loaded* const instance = new Loaded;  // not destroyed: another thread may launch while the process ends
    return *instance;
}

CUkernel load_kernel(const Driver& driver, std::size_t image, std::size_t kernel) {
    Loaded& all = loaded();
    const std::lock_guard<std::mutex> lock(all.mutex);
    // Loading is not a stream operation, but a capture in global mode would forbid it.
    int mode = kCaptureModeRelaxed;
    check(driver, driver.cuThreadExchangeStreamCaptureMode(&mode), "cuThreadExchangeStreamCaptureMode");
    CUresult result = kSuccess;
    if (!all.libraries[image])
        result = driver.cuLibraryLoadData(&all.libraries[image], fusedssim_device_code + kImages[image].offset, nullptr,
                                          nullptr, 0, nullptr, nullptr, 0);
    CUkernel handle = nullptr;
    if (result == kSuccess) result = driver.cuLibraryGetKernel(&handle, all.libraries[image], kKernels[kernel].name);
    driver.cuThreadExchangeStreamCaptureMode(&mode);
    check(driver, result, kKernels[kernel].name);
    all.kernels[image][kernel].store(handle, std::memory_order_release);
    return handle;
}

}  // namespace

int compute_capability(const Driver& driver, int device_id) {
    constexpr int kDevices = 64;
    static std::atomic<int> known[kDevices];
    if (device_id < kDevices)
        if (const int capability = known[device_id].load(std::memory_order_relaxed)) return capability;
    CUdevice device;
    int major = 0, minor = 0;
    check(driver, driver.cuDeviceGet(&device, device_id), "cuDeviceGet");
    check(driver, driver.cuDeviceGetAttribute(&major, kComputeCapabilityMajor, device), "cuDeviceGetAttribute");
    check(driver, driver.cuDeviceGetAttribute(&minor, kComputeCapabilityMinor, device), "cuDeviceGetAttribute");
    if (device_id < kDevices) known[device_id].store(major * 10 + minor, std::memory_order_relaxed);
    return major * 10 + minor;
}

CUfunction find_kernel(const Driver& driver, int device_id, Family family, Element element, int radius, int grads) {
    std::size_t kernel = 0;
    for (; kernel < kKernelCount; ++kernel) {
        const Kernel& k = kKernels[kernel];
        if (k.family == family && k.element == element && k.radius == radius && k.grads == grads) break;
    }
    if (kernel == kKernelCount)
        fail(FUSEDSSIM_INTERNAL_ERROR, "no kernel of family %d, element %d, radius %d, %d gradients", int(family),
             int(element), radius, grads);
    const int capability = compute_capability(driver, device_id);
    const ImageEntry* const image = best_image(kKernels[kernel].unit, capability);
    if (!image)
        fail(FUSEDSSIM_CUDA_UNAVAILABLE,
             "this library has no code for device %d, whose architecture is sm_%d; it has %s: build it with "
             "FUSEDSSIM_CUDA_ARCHITECTURES=%d",
             device_id, capability, architectures(), capability);
    const std::size_t index = std::size_t(image - kImages);
    CUkernel handle = loaded().kernels[index][kernel].load(std::memory_order_acquire);
    if (!handle) handle = load_kernel(driver, index, kernel);
    return reinterpret_cast<CUfunction>(handle);  // as the driver documents for cuLaunchKernel
}

const char* architectures() {
    static const std::string& text = *new std::string([] {
        std::string names;
        for (const ImageEntry& image : kImages) {
            if (std::strcmp(image.unit, kImages[0].unit)) continue;
            if (!names.empty()) names += ' ';
            names += (image.ptx ? "compute_" : "sm_") + std::to_string(image.cc);
        }
        return names;
    }());
    return text.c_str();
}

const char* compiler() { return kCompiler; }

bool has_image(int capability) { return best_image("ssim2d", capability) != nullptr; }

}  // namespace fusedssim::cuda
