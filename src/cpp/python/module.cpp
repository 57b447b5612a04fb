// SPDX-License-Identifier: MIT
//
// The Python module `_core`: integers in, status -> exception, GIL released.
//
// It knows nothing of torch. A `Plan` is one kind of call (settings, device, dtype, shapes and strides) checked and
// converted once; Python keeps it in a cache, so that a call passes little more than pointers. This is what keeps a
// small image cheap: converting shapes and strides again for every call would cost more than all the rest.

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "fusedssim/fusedssim.h"

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace nb = nanobind;

namespace {

using Extents = std::vector<int64_t>;

// ---- Errors ----------------------------------------------------------------------------------------------------------

PyObject* exception_of(fusedssim_status status) {
    switch (status) {
        case FUSEDSSIM_INVALID_ARGUMENT: return PyExc_ValueError;
        case FUSEDSSIM_INVALID_DTYPE: return PyExc_TypeError;
        case FUSEDSSIM_OUT_OF_MEMORY: return PyExc_MemoryError;
        default: return PyExc_RuntimeError;
    }
}

// What a Python caller calls x and y.
struct ImageNames {
    std::string x = "img1", y = "img2";
};

// The library speaks of its own arguments (x, y, params.k1); a Python caller knows them by other names.
std::string with_python_names(const std::string& text, const ImageNames& images) {
    const std::pair<const char*, std::string> names[] = {
        {"x", images.x},
        {"y", images.y},
        {"grad_x", images.x + ".grad"},
        {"grad_y", images.y + ".grad"},
        {"grad_out", "the upstream gradient"},
        {"k1", "K[0]"},
        {"k2", "K[1]"},
    };
    const auto is_name = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    };
    std::string result;
    for (size_t begin = 0; begin < text.size();) {
        size_t end = begin;
        while (end < text.size() && is_name(text[end])) ++end;
        if (end == begin) {
            result += text[begin++];
            continue;
        }
        const std::string word = text.substr(begin, end - begin);
        begin = end;
        if (word == "params" || word == "ms") {  // "params.sigma", "params->sigma": the field is the Python argument
            if (text.compare(end, 1, ".") == 0) begin = end + 1;
            if (text.compare(end, 2, "->") == 0) begin = end + 2;
            if (begin != end) continue;
        }
        const std::string* replacement = &word;
        for (const auto& [from, to] : names) {
            if (word == from) replacement = &to;
        }
        result += *replacement;
    }
    return result;
}

void check(fusedssim_status status, const ImageNames& images = {}) {
    if (status == FUSEDSSIM_OK) return;
    std::string text = with_python_names(fusedssim_last_error(), images);
    if (text.empty()) text = fusedssim_status_string(status);
    PyErr_SetString(exception_of(status), text.c_str());
    throw nb::python_error();
}

// Runs `call` without the GIL and turns its status into an exception.
template <typename Call>
void run(Call&& call, const ImageNames& images = {}) {
    fusedssim_status status;
    {
        nb::gil_scoped_release release;
        status = call();
    }
    check(status, images);
}

// ---- Tensors ---------------------------------------------------------------------------------------------------------

// What Python sends as a pointer: tensor.data_ptr(), a stream handle, or 0 for "none".
void* pointer(uintptr_t address) { return reinterpret_cast<void*>(address); }

fusedssim_tensor make_tensor(fusedssim_dtype dtype, const Extents& shape, const Extents& stride) {
    if (shape.size() != stride.size()) throw nb::value_error("shape and stride differ in length");
    if (shape.size() > FUSEDSSIM_MAX_NDIM) throw nb::value_error("a tensor has at most 5 axes");
    fusedssim_tensor tensor = fusedssim_contiguous(nullptr, dtype, 0, nullptr);
    tensor.ndim = static_cast<int32_t>(shape.size());
    for (size_t axis = 0; axis < shape.size(); ++axis) {
        tensor.shape[axis] = shape[axis];
        tensor.stride[axis] = stride[axis];
    }
    return tensor;
}

fusedssim_tensor at(const fusedssim_tensor& tensor, uintptr_t address) {
    fusedssim_tensor result = tensor;
    result.data = pointer(address);
    return result;
}

// NULL for a gradient that nobody wants.
const fusedssim_tensor* if_given(const fusedssim_tensor& tensor) { return tensor.data ? &tensor : nullptr; }

// ---- Plan ------------------------------------------------------------------------------------------------------------

class Plan {
public:
    Plan(int32_t device, int32_t device_index, int32_t padding, int32_t reduction, int32_t window_size, double sigma,
         double k1, double k2, double data_range, uint32_t grads, int32_t dtype, const Extents& shape,
         const Extents& stride1, const Extents& stride2, const Extents& grad_stride1, const Extents& grad_stride2,
         const Extents& out_shape, std::vector<double> taps, std::optional<double> lambda_dssim,
         const std::vector<double>& scale_weights, int32_t mask_mode, std::optional<int32_t> mask_dtype,
         const Extents& mask_shape, const Extents& mask_stride, std::string name1, std::string name2)
        : taps_(std::move(taps)), names_{std::move(name1), std::move(name2)} {
        params_.padding = padding;
        params_.reduction = reduction;
        params_.window_size = window_size;
        params_.sigma = sigma;
        params_.k1 = k1;
        params_.k2 = k2;
        params_.data_range = data_range;
        params_.mask_mode = mask_mode;
        if (lambda_dssim) {
            params_.objective = FUSEDSSIM_OBJECTIVE_LOSS;
            params_.lambda_dssim = *lambda_dssim;
        }
        if (!taps_.empty()) {
            if (taps_.size() != static_cast<size_t>(window_size)) throw nb::value_error("taps are not window_size");
            params_.taps = taps_.data();
        }
        if (!scale_weights.empty()) {
            if (scale_weights.size() > FUSEDSSIM_MAX_LEVELS) {
                const std::string text = std::to_string(scale_weights.size()) + " weights; expected at most " +
                                         std::to_string(FUSEDSSIM_MAX_LEVELS) + ", one for each scale";
                throw nb::value_error(text.c_str());
            }
            ms_.levels = static_cast<int32_t>(scale_weights.size());
            for (size_t level = 0; level < FUSEDSSIM_MAX_LEVELS; ++level) {
                ms_.weights[level] = level < scale_weights.size() ? scale_weights[level] : 0.0;
            }
            is_multi_scale_ = true;
        }
        if (mask_dtype) {
            mask_ = make_tensor(*mask_dtype, mask_shape, mask_stride);
            params_.mask = &mask_;
        }
        exec_.device = device;
        exec_.device_id = device_index;
        x_ = make_tensor(dtype, shape, stride1);
        y_ = make_tensor(dtype, shape, stride2);
        grad_x_ = make_tensor(dtype, shape, grad_stride1);
        grad_y_ = make_tensor(dtype, shape, grad_stride2);
        const fusedssim_dtype arithmetic = dtype == FUSEDSSIM_FLOAT64 ? FUSEDSSIM_FLOAT64 : FUSEDSSIM_FLOAT32;
        if (out_shape.size() > FUSEDSSIM_MAX_NDIM) throw nb::value_error("a tensor has at most 5 axes");
        out_ = fusedssim_contiguous(nullptr, arithmetic, static_cast<int32_t>(out_shape.size()), out_shape.data());

        // The first query also checks the settings and the shape.
        if (is_multi_scale_) {
            forward_workspace_ = ms_workspace_size(FUSEDSSIM_GRAD_NONE);
            if (grads != FUSEDSSIM_GRAD_NONE) value_and_grad_workspace_ = ms_workspace_size(grads);
            return;
        }
        forward_workspace_ = workspace_size(FUSEDSSIM_OP_FORWARD, FUSEDSSIM_GRAD_NONE);
        if (grads != FUSEDSSIM_GRAD_NONE) {
            value_and_grad_workspace_ = workspace_size(FUSEDSSIM_OP_VALUE_AND_GRAD, grads);
            backward_workspace_ = workspace_size(FUSEDSSIM_OP_BACKWARD, grads);
            check(fusedssim_saved_size(&params_, &exec_, grads, &x_, &saved_bytes_), names_);
            if (saved_bytes_ > 0) {
                saved_backward_workspace_ = workspace_size(FUSEDSSIM_OP_BACKWARD_SAVED, grads);
            }
        }
    }

    // params_ points into this object.
    Plan(const Plan&) = delete;
    Plan& operator=(const Plan&) = delete;

    size_t saved_bytes() const { return saved_bytes_; }
    size_t forward_workspace() const { return forward_workspace_; }
    size_t value_and_grad_workspace() const { return value_and_grad_workspace_; }
    size_t backward_workspace() const { return backward_workspace_; }
    size_t saved_backward_workspace() const { return saved_backward_workspace_; }

    void forward(int32_t threads, uintptr_t stream, uintptr_t workspace, uintptr_t x, uintptr_t y, uintptr_t mask,
                 uintptr_t out, uintptr_t saved) const {
        const fusedssim_exec exec = exec_with(threads, stream, workspace, forward_workspace_);
        const Params params(*this, mask, 1.0);
        const fusedssim_tensor tx = at(x_, x), ty = at(y_, y), tout = at(out_, out);
        run(
            [&] {
                if (is_multi_scale_) return fusedssim_ms_forward(params.get(), &ms_, &exec, &tx, &ty, &tout);
                return fusedssim_forward(params.get(), &exec, &tx, &ty, &tout, pointer(saved),
                                         saved ? saved_bytes_ : 0);
            },
            names_);
    }

    void value_and_grad(int32_t threads, uintptr_t stream, uintptr_t workspace, uintptr_t x, uintptr_t y,
                        uintptr_t mask, uintptr_t out, uintptr_t grad_x, uintptr_t grad_y, double grad_scale) const {
        const fusedssim_exec exec = exec_with(threads, stream, workspace, value_and_grad_workspace_);
        const Params params(*this, mask, grad_scale);
        const fusedssim_tensor tx = at(x_, x), ty = at(y_, y), tout = at(out_, out);
        const fusedssim_tensor tgx = at(grad_x_, grad_x), tgy = at(grad_y_, grad_y);
        run(
            [&] {
                if (is_multi_scale_) {
                    return fusedssim_ms_value_and_grad(params.get(), &ms_, &exec, &tx, &ty, &tout, if_given(tgx),
                                                       if_given(tgy));
                }
                return fusedssim_value_and_grad(params.get(), &exec, &tx, &ty, &tout, if_given(tgx), if_given(tgy));
            },
            names_);
    }

    void backward(int32_t threads, uintptr_t stream, uintptr_t workspace, uintptr_t x, uintptr_t y, uintptr_t mask,
                  uintptr_t saved, uintptr_t grad_out, const Extents& grad_out_stride, uintptr_t grad_x,
                  uintptr_t grad_y) const {
        if (is_multi_scale_) throw nb::value_error("MS-SSIM has no backward of its own: value_and_grad, then scale");
        const fusedssim_exec exec =
            exec_with(threads, stream, workspace, saved ? saved_backward_workspace_ : backward_workspace_);
        const Params params(*this, mask, 1.0);
        const fusedssim_tensor tx = at(x_, x), ty = at(y_, y), tgo = strided_out(grad_out, grad_out_stride);
        const fusedssim_tensor tgx = at(grad_x_, grad_x), tgy = at(grad_y_, grad_y);
        run(
            [&] {
                return fusedssim_backward(params.get(), &exec, &tx, &ty, pointer(saved), saved ? saved_bytes_ : 0, &tgo,
                                          if_given(tgx), if_given(tgy));
            },
            names_);
    }

    // The gradients that value_and_grad() wrote, times factor * grad_out, in place.
    void scale(int32_t threads, uintptr_t stream, double factor, uintptr_t grad_out, const Extents& grad_out_stride,
               uintptr_t grad_x, uintptr_t grad_y) const {
        const fusedssim_exec exec = exec_with(threads, stream, 0, 0);
        const fusedssim_tensor tgo = strided_out(grad_out, grad_out_stride);
        const fusedssim_tensor tgx = at(grad_x_, grad_x), tgy = at(grad_y_, grad_y);
        run(
            [&] {
                fusedssim_status status = FUSEDSSIM_OK;
                if (tgx.data) status = fusedssim_scale(&exec, factor, &tgo, &tgx);
                if (tgy.data && status == FUSEDSSIM_OK) status = fusedssim_scale(&exec, factor, &tgo, &tgy);
                return status;
            },
            names_);
    }

private:
    // The settings of one call: those of the plan, with this call's mask.
    class Params {
    public:
        Params(const Plan& plan, uintptr_t mask, double grad_scale)
            : params_(plan.params_), mask_(at(plan.mask_, mask)) {
            params_.grad_scale = grad_scale;
            params_.mask = plan.params_.mask ? &mask_ : nullptr;
        }
        Params(const Params&) = delete;
        Params& operator=(const Params&) = delete;
        const fusedssim_params* get() const { return &params_; }

    private:
        fusedssim_params params_;
        fusedssim_tensor mask_;
    };

    size_t workspace_size(fusedssim_op op, fusedssim_grads grads) const {
        size_t bytes = 0;
        check(fusedssim_workspace_size(&params_, &exec_, op, grads, &x_, &bytes), names_);
        return bytes;
    }

    size_t ms_workspace_size(fusedssim_grads grads) const {
        size_t bytes = 0;
        check(fusedssim_ms_workspace_size(&params_, &ms_, &exec_, grads, &x_, &bytes), names_);
        return bytes;
    }

    fusedssim_exec exec_with(int32_t threads, uintptr_t stream, uintptr_t workspace, size_t workspace_bytes) const {
        fusedssim_exec exec = exec_;
        exec.cpu_threads = threads;
        exec.stream = pointer(stream);
        exec.workspace = pointer(workspace);
        exec.workspace_bytes = workspace_bytes;
        return exec;
    }

    // A tensor of the shape of `out`; what autograd sends is often expanded, so its strides are its own.
    fusedssim_tensor strided_out(uintptr_t address, const Extents& stride) const {
        if (stride.size() != static_cast<size_t>(out_.ndim)) {
            throw nb::value_error("the upstream gradient has another number of axes than the output");
        }
        fusedssim_tensor tensor = at(out_, address);
        for (size_t axis = 0; axis < stride.size(); ++axis) tensor.stride[axis] = stride[axis];
        return tensor;
    }

    std::vector<double> taps_;
    ImageNames names_;
    fusedssim_params params_ = FUSEDSSIM_PARAMS_DEFAULT;
    fusedssim_ms_params ms_ = FUSEDSSIM_MS_PARAMS_DEFAULT;
    bool is_multi_scale_ = false;
    fusedssim_exec exec_ = FUSEDSSIM_EXEC_DEFAULT;
    fusedssim_tensor x_, y_, grad_x_, grad_y_, out_;
    fusedssim_tensor mask_ = fusedssim_contiguous(nullptr, 0, 0, nullptr);
    size_t saved_bytes_ = 0;
    size_t forward_workspace_ = 0;
    size_t value_and_grad_workspace_ = 0;
    size_t backward_workspace_ = 0;
    size_t saved_backward_workspace_ = 0;
};

// ---- What this library is --------------------------------------------------------------------------------------------

std::string library_path() {
#if defined(_WIN32)
    HMODULE library = nullptr;
    char path[4096] = "";
    if (GetModuleHandleExA(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT,
                           reinterpret_cast<LPCSTR>(&fusedssim_version), &library)) {
        GetModuleFileNameA(library, path, sizeof(path));
    }
    return path;
#else
    Dl_info where;
    const bool found = dladdr(reinterpret_cast<const void*>(&fusedssim_version), &where) != 0;
    return found && where.dli_fname ? where.dli_fname : "";
#endif
}

nb::dict library_info() {
    fusedssim_info info{};
    info.struct_size = sizeof(info);
    run([&] { return fusedssim_get_info(&info); });
    nb::list devices;
    for (int32_t index = 0; index < info.cuda_device_count; ++index) {
        fusedssim_cuda_device_info device{};
        device.struct_size = sizeof(device);
        run([&] { return fusedssim_get_cuda_device_info(index, &device); });
        nb::dict entry;
        entry["index"] = index;
        entry["name"] = nb::cast(static_cast<const char*>(device.name));
        entry["compute_capability"] = device.compute_capability;
        entry["multiprocessors"] = device.multiprocessors;
        entry["memory_bytes"] = device.memory_bytes;
        entry["usable"] = device.usable != 0;
        devices.append(entry);
    }
    nb::dict result;
    result["version"] = nb::cast(fusedssim_version());
    result["library_path"] = library_path();
    result["cuda_built"] = info.cuda_built != 0;
    result["cuda_architectures"] = nb::cast(info.cuda_architectures);
    result["cuda_compiler"] = nb::cast(info.cuda_compiler);
    result["cuda_problem"] = nb::cast(info.cuda_problem);
    result["cuda_driver_version"] = info.cuda_driver_version;
    result["cuda_devices"] = devices;
    result["cpu_isa"] = nb::cast(info.cpu_isa);
    result["cpu_threads"] = info.cpu_threads;
    return result;
}

}  // namespace

NB_MODULE(_core, m) {
    m.doc() = "Private: libfusedssim for Python. Use the functions of fused_ssim.";
    nb::set_leak_warnings(false);  // plans live in Python's caches, which may outlive the module at exit

    nb::class_<Plan>(m, "Plan", "One kind of call, checked and converted once.")
        .def(nb::init<int32_t, int32_t, int32_t, int32_t, int32_t, double, double, double, double, uint32_t, int32_t,
                      const Extents&, const Extents&, const Extents&, const Extents&, const Extents&, const Extents&,
                      std::vector<double>, std::optional<double>, const std::vector<double>&, int32_t,
                      std::optional<int32_t>, const Extents&, const Extents&, std::string, std::string>(),
             nb::arg("device"), nb::arg("device_index"), nb::arg("padding"), nb::arg("reduction"),
             nb::arg("window_size"), nb::arg("sigma"), nb::arg("k1"), nb::arg("k2"), nb::arg("data_range"),
             nb::arg("grads"), nb::arg("dtype"), nb::arg("shape"), nb::arg("stride1"), nb::arg("stride2"),
             nb::arg("grad_stride1"), nb::arg("grad_stride2"), nb::arg("out_shape"), nb::arg("taps"),
             nb::arg("lambda_dssim").none(), nb::arg("scale_weights"), nb::arg("mask_mode"),
             nb::arg("mask_dtype").none(), nb::arg("mask_shape"), nb::arg("mask_stride"), nb::arg("name1"),
             nb::arg("name2"))
        .def_prop_ro("saved_bytes", &Plan::saved_bytes)
        .def_prop_ro("forward_workspace", &Plan::forward_workspace)
        .def_prop_ro("value_and_grad_workspace", &Plan::value_and_grad_workspace)
        .def_prop_ro("backward_workspace", &Plan::backward_workspace)
        .def_prop_ro("saved_backward_workspace", &Plan::saved_backward_workspace)
        // Positional only: names would cost time in every call.
        .def("forward", &Plan::forward)
        .def("value_and_grad", &Plan::value_and_grad)
        .def("backward", &Plan::backward)
        .def("scale", &Plan::scale);

    m.def("version", [] { return std::string(fusedssim_version()); });
    m.def("info", &library_info);

    m.attr("CPU") = static_cast<int>(FUSEDSSIM_CPU);
    m.attr("CUDA") = static_cast<int>(FUSEDSSIM_CUDA);
    m.attr("FLOAT32") = static_cast<int>(FUSEDSSIM_FLOAT32);
    m.attr("FLOAT64") = static_cast<int>(FUSEDSSIM_FLOAT64);
    m.attr("FLOAT16") = static_cast<int>(FUSEDSSIM_FLOAT16);
    m.attr("BFLOAT16") = static_cast<int>(FUSEDSSIM_BFLOAT16);
    m.attr("BOOL") = static_cast<int>(FUSEDSSIM_BOOL);
    m.attr("PADDING_SAME") = static_cast<int>(FUSEDSSIM_PADDING_SAME);
    m.attr("PADDING_VALID") = static_cast<int>(FUSEDSSIM_PADDING_VALID);
    m.attr("REDUCTION_MEAN") = static_cast<int>(FUSEDSSIM_REDUCTION_MEAN);
    m.attr("REDUCTION_SUM") = static_cast<int>(FUSEDSSIM_REDUCTION_SUM);
    m.attr("REDUCTION_PER_IMAGE") = static_cast<int>(FUSEDSSIM_REDUCTION_PER_IMAGE);
    m.attr("REDUCTION_PER_PLANE") = static_cast<int>(FUSEDSSIM_REDUCTION_PER_PLANE);
    m.attr("REDUCTION_NONE") = static_cast<int>(FUSEDSSIM_REDUCTION_NONE);
    m.attr("MASK_WEIGHT") = static_cast<int>(FUSEDSSIM_MASK_WEIGHT);
    m.attr("MASK_NORMALIZED") = static_cast<int>(FUSEDSSIM_MASK_NORMALIZED);
    m.attr("GRAD_X") = static_cast<int>(FUSEDSSIM_GRAD_X);
    m.attr("GRAD_Y") = static_cast<int>(FUSEDSSIM_GRAD_Y);
    m.attr("MAX_WINDOW_SIZE") = FUSEDSSIM_MAX_WINDOW_SIZE;
    m.attr("MAX_LEVELS") = FUSEDSSIM_MAX_LEVELS;
}
