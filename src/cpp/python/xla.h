// SPDX-License-Identifier: MIT
//
// Handlers for XLA: the operations of the C interface, as XLA's foreign function interface calls them. fused_ssim.jax
// registers them. They know nothing of Python.
#pragma once

#include "xla_ffi.h"

// A function of the C interface, for SSIM or MS-SSIM. Images are arrays [N, ...] whose axis `channel_axis` is C; all
// are C-contiguous.
//
//                     arguments                                   results
//     forward         x, y, [mask], [data ranges]                 out, [workspace]
//     value_and_grad  x, y, [mask], [data ranges]                 out, [grad x], [grad y], [workspace]
//     backward        x, y, [mask], [data ranges], grad out       [grad x], [grad y], [workspace]
//
// The attributes are the settings by name (names.h; "window_size", "sigma" and "integer_scale" as arrays; "normalized";
// "lambda_dssim", "taps", "weights" if there are any; "name1" and "name2", of the images in errors), and of the call:
// "channel_axis", "has_mask", "has_ranges", "grads" and "grad_scale". The workspace has the bytes that the library
// says, and is left out if they are none.
struct XlaOperation {
    const char* name;
    xla_ffi::Handler* cpu;
    xla_ffi::Handler* cuda;
};
extern const XlaOperation kXlaOperations[3];
