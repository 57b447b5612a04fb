// SPDX-License-Identifier: MIT
//
// A failed call becomes an exception. Its text names the arguments as a Python caller knows them.
#pragma once

#include <string>

#include <nanobind/nanobind.h>

#include "fusedssim/fusedssim.h"

// The names of x and y in Python.
struct ImageNames {
    std::string x = "img1", y = "img2";
};

inline PyObject* exception_of(fusedssim_status status) {
    switch (status) {
        case FUSEDSSIM_INVALID_ARGUMENT: return PyExc_ValueError;
        case FUSEDSSIM_INVALID_DTYPE: return PyExc_TypeError;
        case FUSEDSSIM_OUT_OF_MEMORY: return PyExc_MemoryError;
        // A RuntimeError, for which training codes look that have a slower way for other devices.
        case FUSEDSSIM_CUDA_UNAVAILABLE: return PyExc_NotImplementedError;
        default: return PyExc_RuntimeError;  // also for a status of a later version of the library
    }
}

// The names of the library's arguments that Python has other names for; the fields of a structure are plain arguments.
inline void check(fusedssim_status status, const ImageNames& images = {}) {
    if (status == FUSEDSSIM_OK) return;
    const std::string grad_x = images.x + ".grad", grad_y = images.y + ".grad";
    const char* const names[][2] = {
        {"x", images.x.c_str()},
        {"y", images.y.c_str()},
        {"grad_x", grad_x.c_str()},
        {"grad_y", grad_y.c_str()},
        {"grad_out", "the upstream gradient"},
        {"params.data_ranges", "data_range"},
        {"params.k1", "K[0]"},
        {"params.k2", "K[1]"},
        {"params.", ""},
        {"ms.", ""},
        {nullptr, nullptr},
    };
    const char* text = fusedssim_last_error_as(names[0]);
    PyErr_SetString(exception_of(status), *text ? text : fusedssim_status_string(status));
    throw nanobind::python_error();
}

// Runs `call` without the GIL and turns its status into an exception.
template <typename Call>
void run(Call&& call, const ImageNames& images = {}) {
    fusedssim_status status;
    {
        nanobind::gil_scoped_release release;
        status = call();
    }
    check(status, images);
}
