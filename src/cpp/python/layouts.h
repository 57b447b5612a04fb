// SPDX-License-Identifier: MIT
//
// `_core.Layout` and `_core.Images`: the layout of everything that a call reads and writes, without the addresses.
#pragma once

#include <cstdint>
#include <new>
#include <optional>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include "fusedssim/fusedssim.h"

using Extents = std::vector<int64_t>;

// What Python sends as a pointer: tensor.data_ptr(), a stream handle, or 0 for "none".
inline void* pointer(uintptr_t address) { return reinterpret_cast<void*>(address); }

inline fusedssim_tensor make_tensor(fusedssim_dtype dtype, const Extents& shape, const Extents& stride) {
    if (shape.size() != stride.size()) throw nanobind::value_error("shape and stride differ in length");
    if (shape.size() > FUSEDSSIM_MAX_NDIM) throw nanobind::value_error("a tensor has at most 5 axes");
    fusedssim_tensor tensor = fusedssim_contiguous(nullptr, dtype, 0, nullptr);
    tensor.ndim = static_cast<int32_t>(shape.size());
    for (size_t axis = 0; axis < shape.size(); ++axis) {
        tensor.shape[axis] = shape[axis];
        tensor.stride[axis] = stride[axis];
    }
    return tensor;
}

inline fusedssim_tensor at(const fusedssim_tensor& tensor, uintptr_t address) {
    fusedssim_tensor result = tensor;
    result.data = pointer(address);
    return result;
}

// NULL for a gradient that nobody wants.
inline const fusedssim_tensor* if_given(const fusedssim_tensor& tensor) { return tensor.data ? &tensor : nullptr; }

struct Images {
    fusedssim_tensor x, y, grad_x, grad_y, out;
    std::optional<fusedssim_tensor> mask, data_ranges;
};

inline void bind_layouts(nanobind::module_& m) {
    namespace nb = nanobind;
    nb::class_<fusedssim_tensor>(m, "Layout", "The layout of one array: dtype, shape and strides in elements.")
        .def(
            "__init__",
            [](fusedssim_tensor* self, fusedssim_dtype dtype, const Extents& shape, const Extents& stride) {
                new (self) fusedssim_tensor(make_tensor(dtype, shape, stride));
            },
            nb::kw_only(), nb::arg("dtype"), nb::arg("shape"), nb::arg("stride"));
    nb::class_<Images>(m, "Images", "The layouts of all that a call reads and writes.")
        .def(
            "__init__",
            [](Images* self, const fusedssim_tensor& x, const fusedssim_tensor& y, const fusedssim_tensor& grad_x,
               const fusedssim_tensor& grad_y, const fusedssim_tensor& out, const std::optional<fusedssim_tensor>& mask,
               const std::optional<fusedssim_tensor>& data_ranges) {
                new (self) Images{x, y, grad_x, grad_y, out, mask, data_ranges};
            },
            nb::kw_only(), nb::arg("x"), nb::arg("y"), nb::arg("grad_x"), nb::arg("grad_y"), nb::arg("out"),
            nb::arg("mask").none(), nb::arg("data_ranges").none());
}
