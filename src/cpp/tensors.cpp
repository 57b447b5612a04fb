// SPDX-License-Identifier: MIT
#include "tensors.h"

#include <cstdint>
#include <limits>

#include "error.h"
#include "structs.h"

namespace fusedssim {

fusedssim_tensor read_any_tensor(const fusedssim_tensor* tensor, const char* name) {
    fusedssim_tensor t{};
    read_struct(&t, sizeof t, sizeof t, tensor, name);
    if (t.reserved) fail(kInvalid, "{%s}.reserved = %d, expected 0", name, int(t.reserved));
    if (!dtype_name(dtype_of(t)))
        fail(FUSEDSSIM_INVALID_DTYPE, "{%s}.dtype = %d is not a fusedssim_dtype", name, int(t.dtype));
    if (t.ndim < 0 || t.ndim > FUSEDSSIM_MAX_NDIM)
        fail(kInvalid, "{%s}.ndim = %d, expected 0 to %d", name, int(t.ndim), FUSEDSSIM_MAX_NDIM);
    for (int i = 0; i < t.ndim; ++i)
        if (t.shape[i] < 1)
            fail(kInvalid, "{%s}.shape[%d] = %lld, expected at least 1", name, i, static_cast<long long>(t.shape[i]));
    return t;
}

fusedssim_tensor read_tensor(const fusedssim_tensor* tensor, const char* name) {
    const fusedssim_tensor t = read_any_tensor(tensor, name);
    if (fusedssim_arithmetic_dtype(t.dtype) < 0)
        fail(FUSEDSSIM_INVALID_DTYPE,
             "{%s}.dtype = %s, expected float32, float64, float16, bfloat16, uint8, "
             "uint16 or int16",
             name, dtype_name(dtype_of(t)));
    return t;
}

namespace {

// |v|, also of the least number, whose negative is none.
std::uint64_t magnitude(std::int64_t v) { return v < 0 ? 0 - std::uint64_t(v) : std::uint64_t(v); }

// The stride of an axis of one element means nothing, and may be anything. Nobody is to compute with a large one.
std::int64_t stride_of(const fusedssim_tensor& t, int axis) {
    constexpr std::uint64_t kLarge = std::uint64_t(1) << 48;
    return t.shape[axis] == 1 && magnitude(t.stride[axis]) > kLarge ? 0 : t.stride[axis];
}

// The distance in bytes from the lowest to the highest element fits an address, and so do all distances between.
void require_span_fits(const fusedssim_tensor& t, const char* name) {
    std::uint64_t left = (std::uint64_t(1) << 62) / dtype_size(dtype_of(t));
    for (int i = 0; i < t.ndim; ++i) {
        const auto steps = std::uint64_t(t.shape[i] - 1), stride = magnitude(t.stride[i]);
        if (steps > 0 && stride > left / steps)
            fail(kInvalid, "{%s}.stride[%d] = %lld: {%s} spans more than 2^62 bytes", name, i,
                 static_cast<long long>(t.stride[i]), name);
        left -= steps * stride;
    }
}

}  // namespace

void require_data(const fusedssim_tensor& t, const char* name) {
    if (!t.data) fail(kInvalid, "{%s}.data is NULL", name);
    const std::size_t size = dtype_size(dtype_of(t));
    if (reinterpret_cast<std::uintptr_t>(t.data) % size)
        fail(kInvalid, "{%s}.data = %p is not aligned to the %zu bytes of a %s", name, t.data, size,
             dtype_name(dtype_of(t)));
    require_span_fits(t, name);
}

// Sorted by stride, each axis has to step over all that lies below it.
void require_no_self_overlap(const fusedssim_tensor& t, const char* name) {
    int order[FUSEDSSIM_MAX_NDIM], axes = 0;
    for (int i = 0; i < t.ndim; ++i) {
        if (t.shape[i] == 1) continue;
        int k = axes++;
        for (; k > 0 && magnitude(t.stride[order[k - 1]]) > magnitude(t.stride[i]); --k) order[k] = order[k - 1];
        order[k] = i;
    }
    std::uint64_t span = 0;  // distance from the first to the last element of the axes so far
    for (int k = 0; k < axes; ++k) {
        const int i = order[k];
        const std::uint64_t stride = magnitude(t.stride[i]);
        if (stride <= span)
            fail(kInvalid, "{%s}.stride[%d] = %lld makes elements of {%s} overlap", name, i,
                 static_cast<long long>(t.stride[i]), name);
        span += stride * std::uint64_t(t.shape[i] - 1);  // require_data() has seen that it fits
    }
}

void require_same_shape(const fusedssim_tensor& t, const char* name, int ndim, const std::int64_t* shape,
                        const char* why) {
    if (t.ndim != ndim) fail(kInvalid, "{%s}.ndim = %d, expected %d (%s)", name, int(t.ndim), ndim, why);
    for (int i = 0; i < ndim; ++i)
        if (t.shape[i] != shape[i])
            fail(kInvalid, "{%s}.shape[%d] = %lld, expected %lld (%s)", name, i, static_cast<long long>(t.shape[i]),
                 static_cast<long long>(shape[i]), why);
}

void require_dtype(const fusedssim_tensor& t, const char* name, Dtype dtype, const char* why) {
    if (dtype_of(t) != dtype)
        fail(FUSEDSSIM_INVALID_DTYPE, "{%s}.dtype = %s, expected %s (%s)", name, dtype_name(dtype_of(t)),
             dtype_name(dtype), why);
}

void require_distinct(const fusedssim_tensor& out, const char* name, const fusedssim_tensor& in, const char* in_name) {
    if (out.data == in.data) fail(kInvalid, "{%s}.data = {%s}.data: {%s} would be overwritten", name, in_name, in_name);
}

View spatial_view(const fusedssim_tensor& t) {
    std::int64_t s[FUSEDSSIM_MAX_NDIM] = {};
    for (int i = 0; i < t.ndim; ++i) s[i] = stride_of(t, i);
    return t.ndim == 5 ? View{t.data, s[0], s[1], s[2], s[3], s[4]} : View{t.data, s[0], s[1], 0, s[2], s[3]};
}

View group_view(const fusedssim_tensor& t) {
    return View{t.data, t.ndim > 0 ? stride_of(t, 0) : 0, t.ndim > 1 ? stride_of(t, 1) : 0, 0, 0, 0};
}

void require_axis_fits(const fusedssim_tensor& t, const char* name, int axis) {
    constexpr std::int64_t kMost = std::numeric_limits<int>::max() - 4096;
    if (axis > 0 && t.shape[axis] > kMost)
        fail(kInvalid, "{%s}.shape[%d] = %lld, expected at most %lld", name, axis,
             static_cast<long long>(t.shape[axis]), static_cast<long long>(kMost));
}

}  // namespace fusedssim
