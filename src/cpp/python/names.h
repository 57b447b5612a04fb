// SPDX-License-Identifier: MIT
//
// What Python calls the arguments and the settings of the C interface. It knows nothing of Python itself.
#pragma once

#include <string>

#include "fusedssim/fusedssim.h"

// The names of x and y in Python.
struct ImageNames {
    std::string x = "img1", y = "img2";
};

// The text of this thread's last failed call. Python has other names for some arguments; to it, the fields of a
// structure are plain arguments.
inline std::string error_text(fusedssim_status status, const ImageNames& images) {
    const std::string grad_x = images.x + ".grad", grad_y = images.y + ".grad";
    const char* const names[][2] = {
        {"x", images.x.c_str()},
        {"y", images.y.c_str()},
        {"grad_x", grad_x.c_str()},
        {"grad_y", grad_y.c_str()},
        {"grad_out", "the upstream gradient"},
        {"params.data_ranges", "data_range"},
        {"params.axis_window_size", "window_size"},
        {"params.axis_sigma", "sigma"},
        {"params.axis_taps", "taps"},
        {"params.x_scale", "integer_scale[0]"},
        {"params.y_scale", "integer_scale[1]"},
        {"params.k1", "K[0]"},
        {"params.k2", "K[1]"},
        {"params.", ""},
        {"ms.", ""},
        {nullptr, nullptr},
    };
    const char* text = fusedssim_last_error_as(names[0]);
    return *text ? text : fusedssim_status_string(status);
}

// Calls visit(name, member) for each setting that is a member of fusedssim_params, but the windows (windows.h). To add
// one takes one line here.
template <typename Visit>
void for_each_param(Visit&& visit) {
    visit("padding", &fusedssim_params::padding);
    visit("reduction", &fusedssim_params::reduction);
    visit("k1", &fusedssim_params::k1);
    visit("k2", &fusedssim_params::k2);
    visit("data_range", &fusedssim_params::data_range);
    visit("sample_covariance", &fusedssim_params::sample_covariance);
    visit("arithmetic", &fusedssim_params::arithmetic);
}
