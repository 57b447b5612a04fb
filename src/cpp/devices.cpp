// SPDX-License-Identifier: MIT
#include "devices.h"

#include "cpu/backend.h"
#include "cuda/backend.h"
#include "error.h"

namespace fusedssim {

namespace {

// The devices of fusedssim.h. -Wswitch names what lacks a new one.
enum class Device : fusedssim_device { cpu = FUSEDSSIM_CPU, cuda = FUSEDSSIM_CUDA };

}  // namespace

const Backend* find_backend(fusedssim_device device) {
    switch (Device(device)) {
        case Device::cpu: return &cpu::backend;
        case Device::cuda: return &cuda::backend;
    }
    return nullptr;
}

const Backend& backend_of(const fusedssim_exec& exec) {
    const Backend* const backend = find_backend(exec.device);
    if (!backend) fail(FUSEDSSIM_INTERNAL_ERROR, "device %d has not been checked", int(exec.device));
    return *backend;
}

void fill_info(fusedssim_info& info) {
    // Devices are numbered from 0 on, without gaps.
    for (fusedssim_device device = 0; find_backend(device); ++device) find_backend(device)->fill_info(info);
}

}  // namespace fusedssim
