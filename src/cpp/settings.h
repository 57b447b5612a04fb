// SPDX-License-Identifier: MIT
//
// The caller's settings: copies of params and exec, checked, and what each setting means for the kernels.
#pragma once

#include <cstddef>

#include "core/border.h"
#include "core/ssim_math.h"
#include "core/view.h"
#include "core/window.h"
#include "fusedssim/fusedssim.h"

namespace fusedssim {

static_assert(FUSEDSSIM_MAX_WINDOW_SIZE == 2 * kMaxRadius + 1, "core/window.h has room for the taps of every window");

// Copies of the caller's structures, with defaults where they are shorter. That of params is checked by check_params().
fusedssim_params read_params(const fusedssim_params* params);
fusedssim_exec read_exec(const fusedssim_exec* exec);
void check_params(const fusedssim_params& params);

// Fails unless exec has `bytes` of workspace.
void require_workspace(const fusedssim_exec& exec, std::size_t bytes);

// What params.padding means: the one place that knows.
struct Edges {
    bool is_cropped;  // the map has no positions whose windows reach beyond the image
    Border border;    // what windows see there
};
Edges edges_of(fusedssim_padding padding);

// The window along an axis; an image has none along z.
Window make_window(const fusedssim_params& params, Axis axis, bool is_3d, Dtype arithmetic);

// What k2 is divided by, so that C2 is divided by n / (n - 1), for windows of n elements. 1 without sample covariance.
double covariance_divisor(const fusedssim_params& params, bool is_3d);

// Fails unless a data range is a positive number whose C1 and C2 are normal numbers, or 0, in the type of the
// arithmetic. It is the argument `name`, or, with "[2]" for an index, an element of it.
void check_data_range(double data_range, const char* name, const char* index, const fusedssim_params& params,
                      Dtype arithmetic);

// How the objective and the reduction make a value of the sums of a group.
Reduction make_reduction(const fusedssim_params& params);

}  // namespace fusedssim
