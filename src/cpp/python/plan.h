// SPDX-License-Identifier: MIT
//
// `_core.Plan`: one kind of call, checked and converted once. Python keeps it in a cache, so that a call passes little
// more than addresses. This keeps small images cheap: to convert shapes and strides again in every call would cost more
// than all the rest of it.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include <nanobind/nanobind.h>
#include <nanobind/stl/vector.h>

#include "errors.h"
#include "fusedssim/fusedssim.h"
#include "layouts.h"
#include "settings.h"

class Plan {
public:
    Plan(fusedssim_device device, int32_t device_index, Settings settings, const Images& images, fusedssim_grads grads)
        : settings_(std::move(settings)), images_(images) {
        settings_.set_windows(static_cast<size_t>(images_.x.ndim - 2));
        if (images_.mask) settings_.params.mask = &*images_.mask;
        if (images_.data_ranges) settings_.params.data_ranges = &*images_.data_ranges;
        exec_.device = device;
        exec_.device_id = device_index;
        // The first query also checks the settings and the shape.
        if (settings_.is_multi_scale()) {
            levels_ = settings_.levels();
            forward_workspace_ = ms_workspace_size(FUSEDSSIM_GRAD_NONE);
            if (grads != FUSEDSSIM_GRAD_NONE) value_and_grad_workspace_ = ms_workspace_size(grads);
            return;
        }
        forward_workspace_ = workspace_size(FUSEDSSIM_OP_FORWARD, FUSEDSSIM_GRAD_NONE);
        if (grads != FUSEDSSIM_GRAD_NONE) {
            value_and_grad_workspace_ = workspace_size(FUSEDSSIM_OP_VALUE_AND_GRAD, grads);
            backward_workspace_ = workspace_size(FUSEDSSIM_OP_BACKWARD, grads);
            check(fusedssim_saved_size(&settings_.params, &exec_, grads, &images_.x, &images_.y, &saved_bytes_),
                  settings_.names);
            if (saved_bytes_ > 0) {
                saved_backward_workspace_ = workspace_size(FUSEDSSIM_OP_BACKWARD_SAVED, grads);
            }
        }
    }

    // The parameters point into this object.
    Plan(const Plan&) = delete;
    Plan& operator=(const Plan&) = delete;

    size_t saved_bytes() const { return saved_bytes_; }
    size_t forward_workspace() const { return forward_workspace_; }
    size_t value_and_grad_workspace() const { return value_and_grad_workspace_; }
    size_t backward_workspace() const { return backward_workspace_; }
    size_t saved_backward_workspace() const { return saved_backward_workspace_; }

    // `where` is how the device runs the call: the number of threads on the CPU, the stream elsewhere.

    void forward(uintptr_t where, uintptr_t workspace, uintptr_t x, uintptr_t y, uintptr_t mask, uintptr_t data_ranges,
                 uintptr_t out, uintptr_t saved) const {
        const fusedssim_exec exec = exec_at(where, workspace, forward_workspace_);
        const Params params(*this, mask, data_ranges);
        const fusedssim_tensor tx = image(images_.x, x, settings_.names.x), ty = image(images_.y, y, settings_.names.y),
                               tout = at(images_.out, out);
        run(
            [&] {
                if (settings_.is_multi_scale()) {
                    return fusedssim_ms_forward(params.get(), &levels_, &exec, &tx, &ty, &tout);
                }
                return fusedssim_forward(params.get(), &exec, &tx, &ty, &tout, pointer(saved),
                                         saved ? saved_bytes_ : 0);
            },
            settings_.names);
    }

    void value_and_grad(uintptr_t where, uintptr_t workspace, uintptr_t x, uintptr_t y, uintptr_t mask,
                        uintptr_t data_ranges, uintptr_t out, uintptr_t grad_x, uintptr_t grad_y, double grad_scale,
                        double variance_grad_scale) const {
        const fusedssim_exec exec = exec_at(where, workspace, value_and_grad_workspace_);
        const Params params(*this, mask, data_ranges, grad_scale, variance_grad_scale);
        const fusedssim_tensor tx = image(images_.x, x, settings_.names.x), ty = image(images_.y, y, settings_.names.y),
                               tout = at(images_.out, out);
        const fusedssim_tensor tgx = at(images_.grad_x, grad_x), tgy = at(images_.grad_y, grad_y);
        run(
            [&] {
                if (settings_.is_multi_scale()) {
                    return fusedssim_ms_value_and_grad(params.get(), &levels_, &exec, &tx, &ty, &tout, if_given(tgx),
                                                       if_given(tgy));
                }
                return fusedssim_value_and_grad(params.get(), &exec, &tx, &ty, &tout, if_given(tgx), if_given(tgy));
            },
            settings_.names);
    }

    void backward(uintptr_t where, uintptr_t workspace, uintptr_t x, uintptr_t y, uintptr_t mask, uintptr_t data_ranges,
                  uintptr_t saved, uintptr_t grad_out, const Extents& grad_out_stride, uintptr_t grad_x,
                  uintptr_t grad_y) const {
        if (settings_.is_multi_scale()) {
            throw nanobind::value_error("MS-SSIM has no backward of its own: value_and_grad, then scale");
        }
        const fusedssim_exec exec = exec_at(where, workspace, saved ? saved_backward_workspace_ : backward_workspace_);
        const Params params(*this, mask, data_ranges);
        const fusedssim_tensor tx = image(images_.x, x, settings_.names.x), ty = image(images_.y, y, settings_.names.y);
        const fusedssim_tensor tgo = upstream(grad_out, grad_out_stride);
        const fusedssim_tensor tgx = at(images_.grad_x, grad_x), tgy = at(images_.grad_y, grad_y);
        run(
            [&] {
                return fusedssim_backward(params.get(), &exec, &tx, &ty, pointer(saved), saved ? saved_bytes_ : 0, &tgo,
                                          if_given(tgx), if_given(tgy));
            },
            settings_.names);
    }

    // The gradients that value_and_grad() wrote, times factor * grad_out, in place. grad_out has the dtype of the
    // arithmetic that gradients of that dtype want, which params.arithmetic does not change.
    void scale(uintptr_t where, double factor, uintptr_t grad_out, const Extents& grad_out_stride, uintptr_t grad_x,
               uintptr_t grad_y) const {
        const fusedssim_exec exec = exec_at(where, 0, 0);
        const fusedssim_tensor tgx = at(images_.grad_x, grad_x), tgy = at(images_.grad_y, grad_y);
        fusedssim_tensor tgo = upstream(grad_out, grad_out_stride);
        tgo.dtype = fusedssim_arithmetic_dtype(tgx.data ? tgx.dtype : tgy.dtype);
        run(
            [&] {
                fusedssim_status status = FUSEDSSIM_OK;
                if (tgx.data) status = fusedssim_scale(&exec, factor, &tgo, &tgx);
                if (tgy.data && status == FUSEDSSIM_OK) status = fusedssim_scale(&exec, factor, &tgo, &tgy);
                return status;
            },
            settings_.names);
    }

private:
    // The settings of one call: those of the plan, with this call's mask and data ranges.
    class Params {
    public:
        Params(const Plan& plan, uintptr_t mask, uintptr_t data_ranges, double grad_scale = 1.0,
               double variance_grad_scale = 1.0)
            : params_(plan.settings_.params) {
            params_.grad_scale = grad_scale;
            params_.variance_grad_scale = variance_grad_scale;
            if (plan.images_.mask) {
                mask_ = at(*plan.images_.mask, mask);
                params_.mask = &mask_;
            }
            if (plan.images_.data_ranges) {
                data_ranges_ = at(*plan.images_.data_ranges, data_ranges);
                params_.data_ranges = &data_ranges_;
            }
        }
        Params(const Params&) = delete;
        Params& operator=(const Params&) = delete;
        const fusedssim_params* get() const { return &params_; }

    private:
        fusedssim_params params_;
        fusedssim_tensor mask_, data_ranges_;
    };

    size_t workspace_size(fusedssim_op op, fusedssim_grads grads) const {
        size_t bytes = 0;
        check(fusedssim_workspace_size(&settings_.params, &exec_, op, grads, &images_.x, &images_.y, &bytes),
              settings_.names);
        return bytes;
    }

    size_t ms_workspace_size(fusedssim_grads grads) const {
        size_t bytes = 0;
        check(fusedssim_ms_workspace_size(&settings_.params, &levels_, &exec_, grads, &images_.x, &images_.y, &bytes),
              settings_.names);
        return bytes;
    }

    fusedssim_exec exec_at(uintptr_t where, uintptr_t workspace, size_t workspace_bytes) const {
        fusedssim_exec exec = exec_;
        if (exec.device == FUSEDSSIM_CPU) {
            exec.cpu_threads = static_cast<int32_t>(where);
        } else {
            exec.stream = pointer(where);
        }
        exec.workspace = pointer(workspace);
        exec.workspace_bytes = workspace_bytes;
        return exec;
    }

    // An image is never empty here, so an address of 0 means that its memory was freed under it.
    static fusedssim_tensor image(const fusedssim_tensor& layout, uintptr_t address, const std::string& name) {
        if (!address) {
            const std::string text = name + " has no memory: its storage was freed or resized to 0";
            throw nanobind::value_error(text.c_str());
        }
        return at(layout, address);
    }

    // A tensor of the shape of `out`. Autograd often sends an expanded tensor, so the strides come with the call.
    fusedssim_tensor upstream(uintptr_t address, const Extents& stride) const {
        if (stride.size() != static_cast<size_t>(images_.out.ndim)) {
            throw nanobind::value_error("the upstream gradient has another number of axes than the output");
        }
        fusedssim_tensor tensor = at(images_.out, address);
        for (size_t axis = 0; axis < stride.size(); ++axis) tensor.stride[axis] = stride[axis];
        return tensor;
    }

    Settings settings_;
    Images images_;
    fusedssim_ms_params levels_ = FUSEDSSIM_MS_PARAMS_DEFAULT;
    fusedssim_exec exec_ = FUSEDSSIM_EXEC_DEFAULT;
    size_t saved_bytes_ = 0;
    size_t forward_workspace_ = 0;
    size_t value_and_grad_workspace_ = 0;
    size_t backward_workspace_ = 0;
    size_t saved_backward_workspace_ = 0;
};

inline void bind_plan(nanobind::module_& m) {
    namespace nb = nanobind;
    nb::class_<Plan>(m, "Plan", "One kind of call, checked and converted once.")
        .def(nb::init<fusedssim_device, int32_t, Settings, const Images&, fusedssim_grads>(), nb::kw_only(),
             nb::arg("device"), nb::arg("device_index"), nb::arg("settings"), nb::arg("images"), nb::arg("grads"))
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
}
