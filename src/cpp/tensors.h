// SPDX-License-Identifier: MIT
//
// The caller's tensors: copies of them, what is required of one, and the views that kernels read them by. `name` is
// that of the argument, for the error text; `why` says what the requirement comes from, with marks (error.h).
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/view.h"
#include "core/window.h"
#include "fusedssim/fusedssim.h"

namespace fusedssim {

// A tensor with a dtype, an ndim and a shape that can be. read_tensor() refuses dtypes that images cannot have.
fusedssim_tensor read_any_tensor(const fusedssim_tensor* tensor, const char* name);
fusedssim_tensor read_tensor(const fusedssim_tensor* tensor, const char* name);

inline Dtype dtype_of(const fusedssim_tensor& t) { return Dtype(t.dtype); }
// The spatial axis that is axis i of an image or a volume.
inline Axis axis_of(const fusedssim_tensor& t, int i) { return Axis(i + kAxes - t.ndim); }

void require_data(const fusedssim_tensor& t, const char* name);
void require_dtype(const fusedssim_tensor& t, const char* name, Dtype dtype, const char* why);
void require_same_shape(const fusedssim_tensor& t, const char* name, int ndim, const std::int64_t* shape,
                        const char* why);
// All axes but the first are int in the kernels, with room for what they add to them.
void require_axis_fits(const fusedssim_tensor& t, const char* name, int axis);
// Of outputs, which must not write an element twice, nor over an input.
void require_no_self_overlap(const fusedssim_tensor& t, const char* name);
void require_distinct(const fusedssim_tensor& out, const char* name, const fusedssim_tensor& in, const char* in_name);

// The view of an image, a volume or a map.
View spatial_view(const fusedssim_tensor& t);
// The view of a value for everything, for each image or for each plane.
View group_view(const fusedssim_tensor& t);

}  // namespace fusedssim
