// SPDX-License-Identifier: MIT
#include "cuda/device_code.h"

#include <atomic>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

#include "cuda/kernel_list.h"
#include "cuda/lzma.h"
#include "device_code_index.h"  // generated: kImages and kCompiler
#include "error.h"

#if defined(_WIN32)
#define READ_ONLY_SECTION ".section .rdata, \"dr\"\n"
#define HIDDEN ""
#define SECTION_BEFORE ".text\n"
#else
#define READ_ONLY_SECTION ".section .rodata, \"a\", @progbits\n"
#define HIDDEN ".hidden fusedssim_device_code\n"
#define SECTION_BEFORE ".previous\n"
#endif

// The images as they were packed at build time.
asm(READ_ONLY_SECTION ".global fusedssim_device_code\n" HIDDEN
                      "fusedssim_device_code:\n"
                      ".incbin \"" FUSEDSSIM_DEVICE_CODE_BIN "\"\n" SECTION_BEFORE);
extern "C" const unsigned char fusedssim_device_code[];

namespace fusedssim::cuda {

namespace {

constexpr std::size_t kImageCount = sizeof kImages / sizeof *kImages;

constexpr bool is_same(const char* a, const char* b) {
    while (*a && *a == *b) ++a, ++b;
    return *a == *b;
}
constexpr bool has_each_unit_an_image() {
    for (const Kernel& kernel : kKernels) {
        bool found = false;
        for (const ImageEntry& image : kImages) found = found || is_same(image.unit, kernel.unit);
        if (!found) return false;
    }
    return true;
}
static_assert(has_each_unit_an_image(), "CMakeLists.txt does not compile a unit that instances.h names");

// The image of a unit that serves a device best: the cubin of the device's major version with the largest minor version
// that is not above the device's. If there is none, the newest PTX that the device can run.
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

std::vector<unsigned char> unpacked(const ImageEntry& image) {
    std::vector<unsigned char> code(image.size);
    if (!unpack_lzma(fusedssim_device_code + image.offset, image.packed_size, code.data(), code.size()))
        fail(FUSEDSSIM_INTERNAL_ERROR, "the device code in this library is damaged: install it again");
    return code;
}

CUkernel load_kernel(const Driver& driver, std::size_t image, int kernel) {
    Loaded& all = loaded();
    const std::lock_guard<std::mutex> lock(all.mutex);
    std::vector<unsigned char> code;
    if (!all.libraries[image]) code = unpacked(kImages[image]);
    // Loading is not a stream operation, but a capture in global mode would forbid it.
    int mode = kCaptureModeRelaxed;
    check(driver, driver.cuThreadExchangeStreamCaptureMode(&mode), "cuThreadExchangeStreamCaptureMode");
    CUresult result = kSuccess;
    if (!code.empty())
        result = driver.cuLibraryLoadData(&all.libraries[image], code.data(), nullptr, nullptr, 0, nullptr, nullptr, 0);
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

CUfunction find_kernel(const Driver& driver, int device_id, int kernel) {
    if (kernel < 0) fail(FUSEDSSIM_INTERNAL_ERROR, "there is no kernel for this call");
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

bool has_image(int capability) { return best_image(kKernels[0].unit, capability) != nullptr; }

}  // namespace fusedssim::cuda
