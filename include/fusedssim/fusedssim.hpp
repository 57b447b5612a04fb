// SPDX-License-Identifier: MIT
//
// libfusedssim for C++17: fusedssim.h with types. Header-only; fusedssim.h says what is computed, and its rules hold
// here.
//
//     fusedssim::Executor executor;                                   // the CPU, all cores
//     fusedssim::Tensor x(x_data, {1, 3, height, width});             // x_data: a std::vector<float>, an array, a Span
//     fusedssim::Tensor y(y_data, {1, 3, height, width});
//     float value = 0;
//     executor.forward({}, x, y, fusedssim::scalar(value));
//
// - A wrong call throws fusedssim::Error, which has the status and the text of the C interface. Code without exceptions
//   calls the C functions, with what .c() of these types gives.
// - Nothing here owns image memory. An Executor owns its workspace on a CUDA device, which comes from functions that
//   the caller gives: this header includes nothing of CUDA.
// - Everything is inline: the ABI between a program and the library is that of fusedssim.h alone.
#ifndef FUSEDSSIM_FUSEDSSIM_HPP
#define FUSEDSSIM_FUSEDSSIM_HPP

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "fusedssim/fusedssim.h"

namespace fusedssim {

// ---- Enumerations ---------------------------------------------------------------------------------------------------

enum class Status : fusedssim_status {
    ok = FUSEDSSIM_OK,
    invalid_argument = FUSEDSSIM_INVALID_ARGUMENT,
    invalid_dtype = FUSEDSSIM_INVALID_DTYPE,
    workspace_too_small = FUSEDSSIM_WORKSPACE_TOO_SMALL,
    cuda_unavailable = FUSEDSSIM_CUDA_UNAVAILABLE,
    cuda_error = FUSEDSSIM_CUDA_ERROR,
    out_of_memory = FUSEDSSIM_OUT_OF_MEMORY,
    internal_error = FUSEDSSIM_INTERNAL_ERROR,
};

enum class Dtype : fusedssim_dtype {
    float32 = FUSEDSSIM_FLOAT32,
    float64 = FUSEDSSIM_FLOAT64,
    float16 = FUSEDSSIM_FLOAT16,
    bfloat16 = FUSEDSSIM_BFLOAT16,
    boolean = FUSEDSSIM_BOOL,
    uint8 = FUSEDSSIM_UINT8,
    uint16 = FUSEDSSIM_UINT16,
    int16 = FUSEDSSIM_INT16,
};

enum class Padding : fusedssim_padding {
    same = FUSEDSSIM_PADDING_SAME,
    valid = FUSEDSSIM_PADDING_VALID,
    reflect = FUSEDSSIM_PADDING_REFLECT,
    symmetric = FUSEDSSIM_PADDING_SYMMETRIC,
    replicate = FUSEDSSIM_PADDING_REPLICATE,
};

enum class Reduction : fusedssim_reduction {
    mean = FUSEDSSIM_REDUCTION_MEAN,
    sum = FUSEDSSIM_REDUCTION_SUM,
    per_image = FUSEDSSIM_REDUCTION_PER_IMAGE,
    per_plane = FUSEDSSIM_REDUCTION_PER_PLANE,
    none = FUSEDSSIM_REDUCTION_NONE,
};

enum class Objective : fusedssim_objective { ssim = FUSEDSSIM_OBJECTIVE_SSIM, loss = FUSEDSSIM_OBJECTIVE_LOSS };

enum class MaskMode : fusedssim_mask_mode { weight = FUSEDSSIM_MASK_WEIGHT, normalized = FUSEDSSIM_MASK_NORMALIZED };

enum class Grads : fusedssim_grads {
    none = FUSEDSSIM_GRAD_NONE,
    x = FUSEDSSIM_GRAD_X,
    y = FUSEDSSIM_GRAD_Y,
    both = FUSEDSSIM_GRAD_X | FUSEDSSIM_GRAD_Y,
};

enum class Op : fusedssim_op {
    forward = FUSEDSSIM_OP_FORWARD,
    value_and_grad = FUSEDSSIM_OP_VALUE_AND_GRAD,
    backward = FUSEDSSIM_OP_BACKWARD,
    backward_saved = FUSEDSSIM_OP_BACKWARD_SAVED,
};

// The dtypes that follow from that of an image: of `out`, `grad_out` and the arithmetic, and of its gradient. Since
// 0.1.
constexpr Dtype arithmetic_dtype(Dtype images) {
    return static_cast<Dtype>(fusedssim_arithmetic_dtype(static_cast<fusedssim_dtype>(images)));
}
constexpr Dtype grad_dtype(Dtype image) {
    return static_cast<Dtype>(fusedssim_grad_dtype(static_cast<fusedssim_dtype>(image)));
}

// ---- Errors ---------------------------------------------------------------------------------------------------------

class Error : public std::runtime_error {
public:
    Error(Status status, const std::string& text) : std::runtime_error(text), status_(status) {}
    Status status() const noexcept { return status_; }

private:
    Status status_;
};

// Throws if a call of the C interface failed; what() is its text.
inline void check(fusedssim_status status) {
    if (status == FUSEDSSIM_OK) return;
    const char* text = fusedssim_last_error();
    throw Error(static_cast<Status>(status), *text ? text : fusedssim_status_string(status));
}

// ---- Tensors --------------------------------------------------------------------------------------------------------

// Elements in a row: std::span of C++20, as far as it is needed here. Made of anything that std::data and std::size
// take.
template <typename T>
class Span {
public:
    constexpr Span(T* data, std::size_t size) noexcept : data_(data), size_(size) {}
    template <typename Range, typename = std::enable_if_t<std::is_convertible_v<
                                  std::remove_pointer_t<decltype(std::data(std::declval<Range&>()))> (*)[], T (*)[]>>>
    constexpr Span(Range& range) : data_(std::data(range)), size_(std::size(range)) {}
    constexpr T* data() const noexcept { return data_; }
    constexpr std::size_t size() const noexcept { return size_; }

private:
    T* data_;
    std::size_t size_;
};

template <typename Range>
Span(Range&) -> Span<std::remove_pointer_t<decltype(std::data(std::declval<Range&>()))>>;

// The dtype of an element type. Specialise it for a half-precision type of your own:
//     template <> struct fusedssim::DtypeOf<__half> { static constexpr Dtype value = Dtype::float16; };
template <typename T>
struct DtypeOf;
template <>
struct DtypeOf<float> {
    static constexpr Dtype value = Dtype::float32;
};
template <>
struct DtypeOf<double> {
    static constexpr Dtype value = Dtype::float64;
};
template <>
struct DtypeOf<std::uint8_t> {
    static constexpr Dtype value = Dtype::uint8;
};
template <>
struct DtypeOf<std::uint16_t> {
    static constexpr Dtype value = Dtype::uint16;
};
template <>
struct DtypeOf<std::int16_t> {
    static constexpr Dtype value = Dtype::int16;
};
template <>
struct DtypeOf<bool> {
    static_assert(sizeof(bool) == 1, "a mask has one byte for each element");
    static constexpr Dtype value = Dtype::boolean;
};

using Extents = std::vector<std::int64_t>;

// Images that are read: 4 axes [N, C, H, W], or 5 for volumes [N, C, D, H, W]; or a mask, or what a gradient comes
// from.
class ConstTensor {
public:
    // C-contiguous; the span holds just as many elements as the shape says.
    template <typename Range, typename = decltype(Span(std::declval<const Range&>()))>
    ConstTensor(const Range& range, const Extents& shape) : ConstTensor(Span(range), shape, 0) {}

    // Any strides, in elements, from the first element on; nothing can be checked. For memory of a CUDA device too.
    template <typename T>
    ConstTensor(const T* data, const Extents& shape, const Extents& strides)
        : ConstTensor(data, DtypeOf<T>::value, shape, strides) {}
    ConstTensor(const void* data, Dtype dtype, const Extents& shape, const Extents& strides)
        : ConstTensor(data, dtype, shape) {
        if (strides.size() != shape.size()) throw bad("strides differ from shape in their number");
        for (std::size_t axis = 0; axis < strides.size(); ++axis) c_.stride[axis] = strides[axis];
    }

    // C-contiguous memory of any kind, such as that of a CUDA device.
    template <typename T, typename = decltype(DtypeOf<T>::value)>
    ConstTensor(const T* data, const Extents& shape) : ConstTensor(data, DtypeOf<T>::value, shape) {}
    ConstTensor(const void* data, Dtype dtype, const Extents& shape) {
        if (shape.size() > FUSEDSSIM_MAX_NDIM) throw bad("more than 5 axes");
        c_ = fusedssim_contiguous(const_cast<void*>(data), static_cast<fusedssim_dtype>(dtype),
                                  static_cast<std::int32_t>(shape.size()), shape.data());
    }

    const fusedssim_tensor* c() const noexcept { return &c_; }

protected:
    template <typename T>
    ConstTensor(Span<T> elements, const Extents& shape, int)
        : ConstTensor(elements.data(), DtypeOf<std::remove_const_t<T>>::value, shape) {
        std::uint64_t wanted = 1;
        for (const std::int64_t size : shape) wanted *= static_cast<std::uint64_t>(size);
        if (wanted != elements.size())
            throw bad(std::to_string(elements.size()) + " elements, expected " + std::to_string(wanted) +
                      " as the shape says");
    }

private:
    static Error bad(const std::string& text) { return Error(Status::invalid_argument, "a tensor: " + text); }
    fusedssim_tensor c_;
};

// Memory that is written.
class Tensor : public ConstTensor {
public:
    template <typename Range, typename = decltype(Span(std::declval<Range&>()))>
    Tensor(Range& range, const Extents& shape) : ConstTensor(Span(range), shape, 0) {
        static_assert(!std::is_const_v<std::remove_pointer_t<decltype(std::data(range))>>, "the elements are const");
    }
    template <typename T, typename = decltype(DtypeOf<T>::value)>
    Tensor(T* data, const Extents& shape) : ConstTensor(data, shape) {}
    template <typename T, typename = decltype(DtypeOf<T>::value)>
    Tensor(T* data, const Extents& shape, const Extents& strides) : ConstTensor(data, shape, strides) {}
    Tensor(void* data, Dtype dtype, const Extents& shape) : ConstTensor(data, dtype, shape) {}
    Tensor(void* data, Dtype dtype, const Extents& shape, const Extents& strides)
        : ConstTensor(data, dtype, shape, strides) {}
};

// A result that a call may leave out.
using Output = std::optional<Tensor>;

// One number, as the reductions mean and sum give it.
template <typename T>
Tensor scalar(T& value) {
    return Tensor(&value, Extents{});
}

// ---- What to compute ------------------------------------------------------------------------------------------------

// fusedssim_params. The elements of the mask and of the data ranges are the caller's, and must live as long as this is
// used.
struct Params {
    Padding padding;
    Reduction reduction;
    int window_size;
    double sigma, k1, k2, data_range, grad_scale;
    Objective objective;
    MaskMode mask_mode;
    double lambda_dssim;
    std::optional<ConstTensor> mask;
    std::vector<double> taps;  // empty: a Gaussian
    std::optional<ConstTensor> data_ranges;
    Dtype arithmetic;
    bool sample_covariance;
    std::array<int, 3> axis_window_size;
    std::array<double, 3> axis_sigma;
    std::array<std::vector<double>, 3> axis_taps;  // empty: as NULL
    double x_scale, y_scale;
    double variance_grad_scale;

    Params() {
        const fusedssim_params c = FUSEDSSIM_PARAMS_DEFAULT;
        padding = static_cast<Padding>(c.padding);
        reduction = static_cast<Reduction>(c.reduction);
        window_size = c.window_size;
        sigma = c.sigma;
        k1 = c.k1;
        k2 = c.k2;
        data_range = c.data_range;
        grad_scale = c.grad_scale;
        objective = static_cast<Objective>(c.objective);
        mask_mode = static_cast<MaskMode>(c.mask_mode);
        lambda_dssim = c.lambda_dssim;
        arithmetic = static_cast<Dtype>(c.arithmetic);
        sample_covariance = c.sample_covariance != 0;
        std::copy_n(c.axis_window_size, 3, axis_window_size.begin());
        std::copy_n(c.axis_sigma, 3, axis_sigma.begin());
        x_scale = c.x_scale;
        y_scale = c.y_scale;
        variance_grad_scale = c.variance_grad_scale;
    }

    // Points into this object. A number of taps that is not window_size is an error.
    fusedssim_params c() const {
        check_taps(taps, window_size, "taps");
        for (std::size_t axis = 0; axis < 3; ++axis)
            check_taps(axis_taps[axis], axis_window_size[axis] ? axis_window_size[axis] : window_size,
                       "axis_taps[" + std::to_string(axis) + "]");
        fusedssim_params c = FUSEDSSIM_PARAMS_DEFAULT;
        c.padding = static_cast<fusedssim_padding>(padding);
        c.reduction = static_cast<fusedssim_reduction>(reduction);
        c.window_size = window_size;
        c.sigma = sigma;
        c.k1 = k1;
        c.k2 = k2;
        c.data_range = data_range;
        c.grad_scale = grad_scale;
        c.objective = static_cast<fusedssim_objective>(objective);
        c.mask_mode = static_cast<fusedssim_mask_mode>(mask_mode);
        c.lambda_dssim = lambda_dssim;
        c.mask = mask ? mask->c() : nullptr;
        c.taps = taps.empty() ? nullptr : taps.data();
        c.data_ranges = data_ranges ? data_ranges->c() : nullptr;
        c.arithmetic = static_cast<fusedssim_dtype>(arithmetic);
        c.sample_covariance = sample_covariance;
        std::copy_n(axis_window_size.begin(), 3, c.axis_window_size);
        std::copy_n(axis_sigma.begin(), 3, c.axis_sigma);
        for (std::size_t axis = 0; axis < 3; ++axis)
            c.axis_taps[axis] = axis_taps[axis].empty() ? nullptr : axis_taps[axis].data();
        c.x_scale = x_scale;
        c.y_scale = y_scale;
        c.variance_grad_scale = variance_grad_scale;
        return c;
    }

private:
    static void check_taps(const std::vector<double>& taps, int window_size, const std::string& name) {
        if (!taps.empty() && taps.size() != static_cast<std::size_t>(window_size))
            throw Error(Status::invalid_argument,
                        "params." + name + " has " + std::to_string(taps.size()) +
                            " elements, expected window_size = " + std::to_string(window_size));
    }
};

// fusedssim_ms_params: the weights of the levels, finest first; as many levels as weights.
struct MsParams {
    std::vector<double> weights;

    MsParams() {
        const fusedssim_ms_params c = FUSEDSSIM_MS_PARAMS_DEFAULT;
        weights.assign(c.weights, c.weights + c.levels);
    }

    fusedssim_ms_params c() const {
        if (weights.size() > FUSEDSSIM_MAX_LEVELS)
            throw Error(Status::invalid_argument, "ms.weights has " + std::to_string(weights.size()) +
                                                      " elements, expected at most " +
                                                      std::to_string(FUSEDSSIM_MAX_LEVELS));
        fusedssim_ms_params c = FUSEDSSIM_MS_PARAMS_DEFAULT;
        c.levels = static_cast<std::int32_t>(weights.size());
        for (std::size_t level = 0; level < FUSEDSSIM_MAX_LEVELS; ++level)
            c.weights[level] = level < weights.size() ? weights[level] : 0.0;
        return c;
    }
};

// ---- Where to compute -----------------------------------------------------------------------------------------------

// Memory of a CUDA device that grows to what the largest call so far needed, and is given back at the end.
class Workspace {
public:
    using Allocate = std::function<void*(std::size_t bytes)>;  // nullptr or an exception if there is none
    using Free = std::function<void(void*)>;

    Workspace() = default;
    Workspace(Allocate allocate, Free free) : allocate_(std::move(allocate)), free_(std::move(free)) {}
    Workspace(Workspace&& other) noexcept { swap(other); }
    Workspace& operator=(Workspace&& other) noexcept {
        swap(other);
        return *this;
    }
    ~Workspace() { release(); }

    std::size_t size() const noexcept { return size_; }

    void* reserve(std::size_t bytes) {
        if (bytes <= size_) return data_;
        release();
        data_ = allocate_ ? allocate_(bytes) : nullptr;
        if (!data_)
            throw Error(Status::out_of_memory, "the workspace of " + std::to_string(bytes) +
                                                   " bytes cannot be had from the function that allocates it");
        size_ = bytes;
        return data_;
    }

    void release() noexcept {
        if (data_) free_(data_);
        data_ = nullptr;
        size_ = 0;
    }

private:
    void swap(Workspace& other) noexcept {
        std::swap(allocate_, other.allocate_);
        std::swap(free_, other.free_);
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
    }

    Allocate allocate_;
    Free free_;
    void* data_ = nullptr;
    std::size_t size_ = 0;
};

// A device, on CUDA a stream of it, and the workspace that calls on that stream share. One thread at a time may use it.
class Executor {
public:
    // The CPU, with at most that many threads; 0: one for each core.
    explicit Executor(int cpu_threads = 0) { c_.cpu_threads = cpu_threads; }

    // A CUDA device. stream: a CUstream or cudaStream_t, nullptr is the default stream. allocate and free give memory
    // of that device, aligned to 16 bytes; free must wait for, or be ordered after, the work on that stream
    // (cudaFreeAsync on the stream is; cudaFree waits).
    static Executor cuda(int device_id, void* stream, Workspace::Allocate allocate, Workspace::Free free) {
        Executor result;
        result.c_.device = FUSEDSSIM_CUDA;
        result.c_.device_id = device_id;
        result.c_.stream = stream;
        result.workspace_ = Workspace(std::move(allocate), std::move(free));
        return result;
    }

    // fusedssim_forward(). saved: nullptr, or saved_size() bytes on the device.
    void forward(const Params& params, const ConstTensor& x, const ConstTensor& y, const Tensor& out,
                 void* saved = nullptr, std::size_t saved_bytes = 0) {
        const fusedssim_params p = params.c();
        const fusedssim_exec exec = with_workspace(workspace_size(params, Op::forward, Grads::none, x, y));
        check(fusedssim_forward(&p, &exec, x.c(), y.c(), out.c(), saved, saved_bytes));
    }

    // fusedssim_value_and_grad(): at least one gradient is wanted; std::nullopt stands for what is not.
    void value_and_grad(const Params& params, const ConstTensor& x, const ConstTensor& y, const Output& out,
                        const Output& grad_x, const Output& grad_y = std::nullopt) {
        const fusedssim_params p = params.c();
        const fusedssim_exec exec =
            with_workspace(workspace_size(params, Op::value_and_grad, wanted(grad_x, grad_y), x, y));
        check(fusedssim_value_and_grad(&p, &exec, x.c(), y.c(), or_null(out), or_null(grad_x), or_null(grad_y)));
    }

    // fusedssim_backward(). saved: nullptr, or what forward() filled for images of these strides.
    void backward(const Params& params, const ConstTensor& x, const ConstTensor& y, const ConstTensor& grad_out,
                  const Output& grad_x, const Output& grad_y = std::nullopt, const void* saved = nullptr,
                  std::size_t saved_bytes = 0) {
        const fusedssim_params p = params.c();
        const Op op = saved ? Op::backward_saved : Op::backward;
        const fusedssim_exec exec = with_workspace(workspace_size(params, op, wanted(grad_x, grad_y), x, y));
        check(fusedssim_backward(&p, &exec, x.c(), y.c(), saved, saved_bytes, grad_out.c(), or_null(grad_x),
                                 or_null(grad_y)));
    }

    // fusedssim_scale(): grad *= factor * by.
    void scale(double factor, const ConstTensor& by, const Tensor& grad) {
        check(fusedssim_scale(&c_, factor, by.c(), grad.c()));
    }

    // fusedssim_ms_forward()
    void ms_forward(const Params& params, const MsParams& ms, const ConstTensor& x, const ConstTensor& y,
                    const Tensor& out) {
        const fusedssim_params p = params.c();
        const fusedssim_ms_params m = ms.c();
        const fusedssim_exec exec = with_workspace(ms_workspace_size(params, ms, Grads::none, x, y));
        check(fusedssim_ms_forward(&p, &m, &exec, x.c(), y.c(), out.c()));
    }

    // fusedssim_ms_value_and_grad()
    void ms_value_and_grad(const Params& params, const MsParams& ms, const ConstTensor& x, const ConstTensor& y,
                           const Output& out, const Output& grad_x, const Output& grad_y = std::nullopt) {
        const fusedssim_params p = params.c();
        const fusedssim_ms_params m = ms.c();
        const fusedssim_exec exec = with_workspace(ms_workspace_size(params, ms, wanted(grad_x, grad_y), x, y));
        check(fusedssim_ms_value_and_grad(&p, &m, &exec, x.c(), y.c(), or_null(out), or_null(grad_x), or_null(grad_y)));
    }

    // Bytes of workspace of a call, 0 on the CPU. The calls above see to it themselves.
    std::size_t workspace_size(const Params& params, Op op, Grads grads, const ConstTensor& x,
                               const ConstTensor& y) const {
        const fusedssim_params p = params.c();
        std::size_t bytes = 0;
        check(fusedssim_workspace_size(&p, &c_, static_cast<fusedssim_op>(op), static_cast<fusedssim_grads>(grads),
                                       x.c(), y.c(), &bytes));
        return bytes;
    }
    std::size_t ms_workspace_size(const Params& params, const MsParams& ms, Grads grads, const ConstTensor& x,
                                  const ConstTensor& y) const {
        const fusedssim_params p = params.c();
        const fusedssim_ms_params m = ms.c();
        std::size_t bytes = 0;
        check(fusedssim_ms_workspace_size(&p, &m, &c_, static_cast<fusedssim_grads>(grads), x.c(), y.c(), &bytes));
        return bytes;
    }

    // Bytes that forward() saves for a backward(); 0 where saving does not pay.
    std::size_t saved_size(const Params& params, Grads grads, const ConstTensor& x, const ConstTensor& y) const {
        const fusedssim_params p = params.c();
        std::size_t bytes = 0;
        check(fusedssim_saved_size(&p, &c_, static_cast<fusedssim_grads>(grads), x.c(), y.c(), &bytes));
        return bytes;
    }

    const fusedssim_exec* c() const noexcept { return &c_; }  // without a workspace

private:
    static const fusedssim_tensor* or_null(const Output& tensor) noexcept { return tensor ? tensor->c() : nullptr; }
    static Grads wanted(const Output& grad_x, const Output& grad_y) noexcept {
        return grad_x && grad_y ? Grads::both : grad_x ? Grads::x : grad_y ? Grads::y : Grads::none;
    }
    fusedssim_exec with_workspace(std::size_t bytes) {
        fusedssim_exec exec = c_;
        if (bytes > 0) {
            exec.workspace = workspace_.reserve(bytes);
            exec.workspace_bytes = workspace_.size();
        }
        return exec;
    }

    fusedssim_exec c_ = FUSEDSSIM_EXEC_DEFAULT;
    Workspace workspace_;
};

// ---- What this library is -------------------------------------------------------------------------------------------

inline std::string version() { return fusedssim_version(); }

inline fusedssim_info info() {
    fusedssim_info result{};
    result.struct_size = sizeof result;
    check(fusedssim_get_info(&result));
    return result;
}

inline fusedssim_cuda_device_info cuda_device_info(int device_id) {
    fusedssim_cuda_device_info result{};
    result.struct_size = sizeof result;
    check(fusedssim_get_cuda_device_info(device_id, &result));
    return result;
}

}  // namespace fusedssim

#endif  // FUSEDSSIM_FUSEDSSIM_HPP
