// SPDX-License-Identifier: MIT
//
// The Python module `_core`: integers in, status -> exception, GIL released. It knows nothing of torch.
//
//     errors.h    a failed call becomes an exception, in the words of Python
//     settings.h  what is computed
//     layouts.h   layouts of images, masks and results
//     plan.h      one kind of call, ready to run
//     info.h      what the library is
//     xla.h       handlers that XLA calls, without Python

#include <string>

#include <nanobind/nanobind.h>

#include "fusedssim/fusedssim.h"
#include "info.h"
#include "layouts.h"
#include "plan.h"
#include "settings.h"
#include "xla.h"

namespace {

// A process may run the module's code again, for instance after something has cleared sys.modules, while plans of the
// first run still live. A type cannot be registered twice, so a second run gets the contents of the first. Returns
// whether it did. Where that is not possible there must be an ImportError: a half-made module would crash later.
bool reuse_first(nanobind::module_& m) {
    static PyObject* first = nullptr;
    static PyInterpreterState* interpreter = nullptr;
    if (!first) {
        if (nanobind::type<Plan>().is_valid()) {
            throw nanobind::import_error("another copy of fused_ssim's native module is loaded already");
        }
        first = m.inc_ref().ptr();
        interpreter = PyInterpreterState_Get();
        return false;
    }
    if (interpreter != PyInterpreterState_Get()) {
        throw nanobind::import_error("fused_ssim's native module is loaded by another interpreter of this process");
    }
    for (auto [name, value] : nanobind::borrow<nanobind::dict>(PyModule_GetDict(first))) {
        const std::string text = nanobind::cast<std::string>(name);
        if (text.rfind("__", 0) != 0) m.attr(text.c_str()) = value;
    }
    return true;
}

// The handlers by operation and device, as jax.ffi.register_ffi_target takes them.
void bind_xla(nanobind::module_& m) {
    const auto capsule = [](xla_ffi::Handler* handler) {
        return nanobind::capsule(reinterpret_cast<const void*>(handler));
    };
    nanobind::dict handlers;
    for (const XlaOperation& operation : kXlaOperations) {
        nanobind::dict devices;
        devices["cpu"] = capsule(operation.cpu);
        devices["cuda"] = capsule(operation.cuda);
        handlers[operation.name] = devices;
    }
    m.attr("XLA_HANDLERS") = handlers;
}

}  // namespace

NB_MODULE(_core, m) {
    m.doc() = "Private: libfusedssim for Python. Use the functions of fused_ssim.";
    nanobind::set_leak_warnings(false);  // plans live in Python's caches, which may outlive the module at exit
    if (reuse_first(m)) return;

    bind_settings(m);
    bind_layouts(m);
    bind_plan(m);
    bind_info(m);
    bind_xla(m);

    m.attr("CPU") = static_cast<int>(FUSEDSSIM_CPU);
    m.attr("CUDA") = static_cast<int>(FUSEDSSIM_CUDA);
    m.attr("FLOAT32") = static_cast<int>(FUSEDSSIM_FLOAT32);
    m.attr("FLOAT64") = static_cast<int>(FUSEDSSIM_FLOAT64);
    m.attr("FLOAT16") = static_cast<int>(FUSEDSSIM_FLOAT16);
    m.attr("BFLOAT16") = static_cast<int>(FUSEDSSIM_BFLOAT16);
    m.attr("BOOL") = static_cast<int>(FUSEDSSIM_BOOL);
    m.attr("UINT8") = static_cast<int>(FUSEDSSIM_UINT8);
    m.attr("UINT16") = static_cast<int>(FUSEDSSIM_UINT16);
    m.attr("INT16") = static_cast<int>(FUSEDSSIM_INT16);
    m.attr("PADDING_SAME") = static_cast<int>(FUSEDSSIM_PADDING_SAME);
    m.attr("PADDING_VALID") = static_cast<int>(FUSEDSSIM_PADDING_VALID);
    m.attr("PADDING_REFLECT") = static_cast<int>(FUSEDSSIM_PADDING_REFLECT);
    m.attr("PADDING_SYMMETRIC") = static_cast<int>(FUSEDSSIM_PADDING_SYMMETRIC);
    m.attr("PADDING_REPLICATE") = static_cast<int>(FUSEDSSIM_PADDING_REPLICATE);
    m.attr("REDUCTION_MEAN") = static_cast<int>(FUSEDSSIM_REDUCTION_MEAN);
    m.attr("REDUCTION_SUM") = static_cast<int>(FUSEDSSIM_REDUCTION_SUM);
    m.attr("REDUCTION_PER_IMAGE") = static_cast<int>(FUSEDSSIM_REDUCTION_PER_IMAGE);
    m.attr("REDUCTION_PER_PLANE") = static_cast<int>(FUSEDSSIM_REDUCTION_PER_PLANE);
    m.attr("REDUCTION_NONE") = static_cast<int>(FUSEDSSIM_REDUCTION_NONE);
    m.attr("GRAD_X") = static_cast<int>(FUSEDSSIM_GRAD_X);
    m.attr("GRAD_Y") = static_cast<int>(FUSEDSSIM_GRAD_Y);
    m.attr("MAX_WINDOW_SIZE") = FUSEDSSIM_MAX_WINDOW_SIZE;
    m.attr("MAX_LEVELS") = FUSEDSSIM_MAX_LEVELS;
}
