// SPDX-License-Identifier: MIT
//
// The C ABI: each function validates, hands the work to a backend, and turns exceptions into a status.
#include <new>

#include "core/string.h"
#include "cuda/backend.h"
#include "devices.h"
#include "error.h"
#include "fusedssim/fusedssim.h"
#include "ms_ssim.h"
#include "problem.h"
#include "settings.h"
#include "structs.h"

namespace fusedssim {

namespace {

template <class F>
fusedssim_status guarded(F&& f) noexcept {
    try {
        f();
        return FUSEDSSIM_OK;
    } catch (const Error& error) {
        set_last_error(error.what());
        return error.status();
    } catch (const std::bad_alloc&) {
        set_last_error("host memory ran out");
        return FUSEDSSIM_OUT_OF_MEMORY;
    } catch (const std::exception& error) {
        set_last_error(error.what());
        return FUSEDSSIM_INTERNAL_ERROR;
    } catch (...) {
        set_last_error("unknown exception");
        return FUSEDSSIM_INTERNAL_ERROR;
    }
}

void run(const Problem& p, const fusedssim_exec& exec) { backend_of(exec).run(&p, 1, exec); }

}  // namespace

}  // namespace fusedssim

using namespace fusedssim;

extern "C" {

const char* fusedssim_version(void) {
    return FUSEDSSIM_STRING(FUSEDSSIM_VERSION_MAJOR) "." FUSEDSSIM_STRING(FUSEDSSIM_VERSION_MINOR) "." FUSEDSSIM_STRING(
        FUSEDSSIM_VERSION_PATCH);
}

const char* fusedssim_status_string(fusedssim_status status) {
    switch (status) {
        case FUSEDSSIM_OK: return "ok";
        case FUSEDSSIM_INVALID_ARGUMENT: return "invalid argument";
        case FUSEDSSIM_INVALID_DTYPE: return "invalid dtype";
        case FUSEDSSIM_WORKSPACE_TOO_SMALL: return "workspace too small";
        case FUSEDSSIM_CUDA_UNAVAILABLE: return "CUDA unavailable";
        case FUSEDSSIM_CUDA_ERROR: return "CUDA error";
        case FUSEDSSIM_OUT_OF_MEMORY: return "out of memory";
        case FUSEDSSIM_INTERNAL_ERROR: return "internal error";
        default: return "unknown status";
    }
}

const char* fusedssim_last_error(void) { return last_error(); }

const char* fusedssim_last_error_as(const char* const* names) { return last_error_as(names); }

fusedssim_status fusedssim_forward(const fusedssim_params* params, const fusedssim_exec* exec,
                                   const fusedssim_tensor* x, const fusedssim_tensor* y, const fusedssim_tensor* out,
                                   void* saved, size_t saved_bytes) {
    return guarded([&] {
        const fusedssim_exec e = read_exec(exec);
        const Arguments a = {x, y, out, nullptr, nullptr, nullptr, saved, saved_bytes};
        run(make_forward(read_params(params), e, a), e);
    });
}

fusedssim_status fusedssim_value_and_grad(const fusedssim_params* params, const fusedssim_exec* exec,
                                          const fusedssim_tensor* x, const fusedssim_tensor* y,
                                          const fusedssim_tensor* out, const fusedssim_tensor* grad_x,
                                          const fusedssim_tensor* grad_y) {
    return guarded([&] {
        const fusedssim_exec e = read_exec(exec);
        const Arguments a = {x, y, out, nullptr, grad_x, grad_y, nullptr, 0};
        run(make_value_and_grad(read_params(params), e, a), e);
    });
}

fusedssim_status fusedssim_backward(const fusedssim_params* params, const fusedssim_exec* exec,
                                    const fusedssim_tensor* x, const fusedssim_tensor* y, const void* saved,
                                    size_t saved_bytes, const fusedssim_tensor* grad_out,
                                    const fusedssim_tensor* grad_x, const fusedssim_tensor* grad_y) {
    return guarded([&] {
        const fusedssim_exec e = read_exec(exec);
        const Arguments a = {x, y, nullptr, grad_out, grad_x, grad_y, const_cast<void*>(saved), saved_bytes};
        run(make_backward(read_params(params), e, a), e);
    });
}

fusedssim_status fusedssim_ms_forward(const fusedssim_params* params, const fusedssim_ms_params* ms,
                                      const fusedssim_exec* exec, const fusedssim_tensor* x, const fusedssim_tensor* y,
                                      const fusedssim_tensor* out) {
    return guarded([&] {
        const fusedssim_exec e = read_exec(exec);
        const Arguments a = {x, y, out, nullptr, nullptr, nullptr, nullptr, 0};
        run(make_ms(read_params(params), read_ms_params(ms), e, a), e);
    });
}

fusedssim_status fusedssim_ms_value_and_grad(const fusedssim_params* params, const fusedssim_ms_params* ms,
                                             const fusedssim_exec* exec, const fusedssim_tensor* x,
                                             const fusedssim_tensor* y, const fusedssim_tensor* out,
                                             const fusedssim_tensor* grad_x, const fusedssim_tensor* grad_y) {
    return guarded([&] {
        const fusedssim_exec e = read_exec(exec);
        if (!grad_x && !grad_y) fail(kInvalid, "{grad_x} and {grad_y} are both NULL, expected at least one");
        run(make_ms(read_params(params), read_ms_params(ms), e, {x, y, out, nullptr, grad_x, grad_y, nullptr, 0}), e);
    });
}

fusedssim_status fusedssim_scale(const fusedssim_exec* exec, double factor, const fusedssim_tensor* scale,
                                 const fusedssim_tensor* grad) {
    return guarded([&] {
        const fusedssim_exec e = read_exec(exec);
        const ScaleProblem p = make_scale(factor, scale, grad);
        backend_of(e).scale(&p, 1, e);
    });
}

fusedssim_status fusedssim_workspace_size(const fusedssim_params* params, const fusedssim_exec* exec, fusedssim_op op,
                                          fusedssim_grads grads, const fusedssim_tensor* x, const fusedssim_tensor* y,
                                          size_t* bytes) {
    return guarded([&] {
        if (!bytes) fail(kInvalid, "{bytes} is NULL");
        const fusedssim_exec e = read_exec(exec);
        *bytes = backend_of(e).workspace_bytes(make_sizes(read_params(params), op, grads, x, y));
    });
}

fusedssim_status fusedssim_ms_workspace_size(const fusedssim_params* params, const fusedssim_ms_params* ms,
                                             const fusedssim_exec* exec, fusedssim_grads grads,
                                             const fusedssim_tensor* x, const fusedssim_tensor* y, size_t* bytes) {
    return guarded([&] {
        if (!bytes) fail(kInvalid, "{bytes} is NULL");
        const fusedssim_exec e = read_exec(exec);
        const MsProblem m = make_ms_sizes(read_params(params), read_ms_params(ms), grads, x, y);
        *bytes = ms_workspace_bytes(m, e);
    });
}

fusedssim_status fusedssim_saved_size(const fusedssim_params* params, const fusedssim_exec* exec, fusedssim_grads grads,
                                      const fusedssim_tensor* x, const fusedssim_tensor* y, size_t* bytes) {
    return guarded([&] {
        if (!bytes) fail(kInvalid, "{bytes} is NULL");
        const fusedssim_exec e = read_exec(exec);
        *bytes = saved_size(make_sizes(read_params(params), FUSEDSSIM_OP_FORWARD, grads, x, y), e, grads);
    });
}

fusedssim_status fusedssim_get_info(fusedssim_info* info) {
    return guarded([&] {
        read_struct_size(info, sizeof *info, "info");
        fusedssim_info filled{};
        fill_info(filled);
        write_struct(info, filled, "info");
    });
}

fusedssim_status fusedssim_get_cuda_device_info(int32_t device_id, fusedssim_cuda_device_info* info) {
    return guarded([&] {
        read_struct_size(info, sizeof *info, "info");
        fusedssim_cuda_device_info filled{};
        cuda::fill_device_info(device_id, filled);
        write_struct(info, filled, "info");
    });
}

}  // extern "C"
