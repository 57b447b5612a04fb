// SPDX-License-Identifier: MIT
//
// The devices: a row of functions for each fusedssim_device. Nothing but these rows tells one device from another, so a
// new one is a folder with a row of its own, and a case in find_backend(). Where a build lacks a device, its row has
// functions that fail with a sentence about it.
#pragma once

#include <cstddef>

#include "problem.h"

namespace fusedssim {

struct Backend {
    // Whether memory that a call needs beyond its arguments is exec.workspace, which the caller gives. Otherwise the
    // backend allocates it on the host.
    bool uses_workspace;
    // Whether the device's memory is that of the host: what a call reads besides images is then checked, too.
    bool is_host;

    // Carries out problems that have been checked: levels of MS-SSIM, each with the images that the one before makes
    // (Problem::pooled_x), or one. May fail, but not after something of the caller's has been written. Of these
    // functions, it alone can run out of the host's memory.
    void (*run)(const Problem* problems, int count, const fusedssim_exec& exec);
    // One after the other: each but the first may get the gradients of the one before (ScaleProblem::coarse).
    void (*scale)(const ScaleProblem* steps, int count, const fusedssim_exec& exec);
    void (*combine)(const CombineProblem& p, const fusedssim_exec& exec);

    // Bytes of exec.workspace that run() takes for this problem; for several, as much as for the one that takes most.
    std::size_t (*workspace_bytes)(const Problem& p);
    // Bytes that a forward saves for a backward with so many gradients (1: grad_x, 2: both, or grad_y). What they hold
    // is the backend's own matter. 0: saving does not pay.
    std::size_t (*saved_bytes)(const Problem& p, int grads);

    // Its own fields of fusedssim_info.
    void (*fill_info)(fusedssim_info& info);
};

// NULL if that is no device.
const Backend* find_backend(fusedssim_device device);

// Of exec that read_exec() has checked.
const Backend& backend_of(const fusedssim_exec& exec);

// The fields of fusedssim_info that are about devices.
void fill_info(fusedssim_info& info);

}  // namespace fusedssim
