// SPDX-License-Identifier: MIT
//
// A failed call becomes an exception. Its text names the arguments as a Python caller knows them (names.h).
#pragma once

#include <nanobind/nanobind.h>

#include "fusedssim/fusedssim.h"
#include "names.h"
#include "platform.h"

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

inline void check(fusedssim_status status, const ImageNames& images = {}) {
    if (status == FUSEDSSIM_OK) return;
    PyErr_SetString(exception_of(status), error_text(status, images).c_str());
    throw nanobind::python_error();
}

// Whether the interpreter is shutting down: 3.13 and later say so under the first name. Needs no GIL.
inline bool is_finalizing() {
    using Function = int (*)();
    static const Function function = [] {
        using fusedssim::platform::find_symbol;
        void* symbol = find_symbol("Py_IsFinalizing");
        return reinterpret_cast<Function>(symbol ? symbol : find_symbol("_Py_IsFinalizing"));
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
    if (is_finalizing()) fusedssim::platform::wait_forever();
    PyEval_RestoreThread(thread);
    check(status, images);
}
