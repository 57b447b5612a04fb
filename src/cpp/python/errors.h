// SPDX-License-Identifier: MIT
//
// A failed call becomes an exception. Its text names the arguments as a Python caller knows them.
#pragma once

#include <string>

#include <nanobind/nanobind.h>

#include <dlfcn.h>
#include <unistd.h>

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
    PyErr_SetString(exception_of(status), *text ? text : fusedssim_status_string(status));
    throw nanobind::python_error();
}

// Whether the interpreter is shutting down: 3.13 and later say so under the first name. Needs no GIL.
inline bool is_finalizing() {
    using Function = int (*)();
    static const Function function = [] {
        void* symbol = dlsym(RTLD_DEFAULT, "Py_IsFinalizing");
        return reinterpret_cast<Function>(symbol ? symbol : dlsym(RTLD_DEFAULT, "_Py_IsFinalizing"));
    }();
    return function && function();
}

// Runs `call` without the GIL and turns its status into an exception.
template <typename Call>
void run(Call&& call, const ImageNames& images = {}) {
    PyThreadState* const thread = PyEval_SaveThread();
    const fusedssim_status status = call();
    // To take the GIL of an interpreter that shuts down would unwind this thread, a daemon, through code that does not
    // expect it, and abort the process. From Python 3.14 on such threads hang anyway.
    while (is_finalizing()) pause();
    PyEval_RestoreThread(thread);
    check(status, images);
}
