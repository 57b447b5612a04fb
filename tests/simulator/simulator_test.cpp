// SPDX-License-Identifier: MIT
//
// The CUDA backend on the simulated device, against the CPU backend: `simulator_test <group>` runs one group of checks.
// The CPU's results are tested from Python, with oracles.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "core/dtype.h"
#include "cuda/kernel_list.h"
#include "fusedssim/fusedssim.h"
#include "platform.h"

// The library's own is not exported.
void fusedssim::unexpected_dtype(Dtype) { std::abort(); }

namespace {

using Extents = std::vector<std::int64_t>;

// Whether this is linked to a library that works through all volumes in slabs. Then it is run for their sake alone.
#if defined(FUSEDSSIM_SLABS_FROM)
constexpr bool kSlabs = true;
#else
constexpr bool kSlabs = false;
#endif

int failures = 0;
std::mt19937 random_bits;

std::size_t size_of(fusedssim_dtype dtype) { return fusedssim::dtype_size(fusedssim::Dtype(dtype)); }

// An array in the heap, which ends with its last element; what is not set is not a number. Axes lie in memory in the
// order `layout`, the outermost first; `shift` elements stand before it, `pad` after each row.
struct Array {
    fusedssim_tensor tensor{};
    std::unique_ptr<unsigned char[]> memory;

    Array() = default;
    Array(fusedssim_dtype dtype, const Extents& shape, std::vector<int> layout = {}, std::int64_t shift = 0,
          std::int64_t pad = 0) {
        if (layout.empty())
            for (std::size_t i = 0; i < shape.size(); ++i) layout.push_back(int(i));
        tensor = fusedssim_contiguous(nullptr, dtype, int(shape.size()), shape.data());
        std::int64_t stride = 1, last = 0;
        for (std::size_t i = layout.size(); i-- > 0;) {
            const auto axis = std::size_t(layout[i]);
            tensor.stride[axis] = stride;
            last += (shape[axis] - 1) * stride;
            stride *= shape[axis];
            if (i + 1 == layout.size()) stride += pad;
        }
        const std::size_t bytes = std::size_t(shift + last + 1) * size_of(dtype);
        memory.reset(new unsigned char[bytes]);
        std::memset(memory.get(), 0xff, bytes);
        tensor.data = memory.get() + std::size_t(shift) * size_of(dtype);
    }
    std::size_t count() const {
        std::size_t n = 1;
        for (int i = 0; i < tensor.ndim; ++i) n *= std::size_t(tensor.shape[i]);
        return n;
    }
    void* at(std::size_t element) const {
        std::int64_t offset = 0;
        for (int i = tensor.ndim; i-- > 0;) {
            offset += std::int64_t(element % std::size_t(tensor.shape[i])) * tensor.stride[i];
            element /= std::size_t(tensor.shape[i]);
        }
        return static_cast<unsigned char*>(tensor.data) + offset * std::int64_t(size_of(tensor.dtype));
    }
    template <class T>
    static double get_as(const void* at) {
        T v;
        std::memcpy(&v, at, sizeof v);
        return double(fusedssim::to_float(v));
    }
    template <class T>
    static void set_as(void* at, double value) {
        T v;
        if constexpr (std::is_integral_v<T>)
            v = T(std::lround(value));
        else
            fusedssim::from_float(fusedssim::arithmetic_t<T>(value), v);
        std::memcpy(at, &v, sizeof v);
    }
    double get(std::size_t element) const {
        if (tensor.dtype == FUSEDSSIM_BOOL) return *static_cast<unsigned char*>(at(element));
        double value = 0;
        fusedssim::dispatch_dtype(fusedssim::Dtype(tensor.dtype),
                                  [&](auto zero) { value = get_as<decltype(zero)>(at(element)); });
        return value;
    }
    void set(std::size_t element, double value) {
        if (tensor.dtype == FUSEDSSIM_BOOL) {
            *static_cast<unsigned char*>(at(element)) = value != 0;
            return;
        }
        fusedssim::dispatch_dtype(fusedssim::Dtype(tensor.dtype),
                                  [&](auto zero) { set_as<decltype(zero)>(at(element), value); });
    }
    void fill(const std::function<double(std::size_t)>& value) {
        for (std::size_t i = 0; i < count(); ++i) set(i, value(i));
    }
    // The same elements in the opposite order along all axes.
    void flip() {
        tensor.data = at(count() - 1);
        for (int i = 0; i < tensor.ndim; ++i) tensor.stride[i] = -tensor.stride[i];
    }
    const fusedssim_tensor* pointer() const { return tensor.data ? &tensor : nullptr; }
};

double uniform(double low = 0, double high = 1) {
    return std::uniform_real_distribution<double>(low, high)(random_bits);
}

enum class Call { forward, value_and_grad, backward, backward_saved, multi_scale };

struct Case {
    Extents shape;
    fusedssim_dtype dtype = FUSEDSSIM_FLOAT32;  // of x
    Call call = Call::value_and_grad;
    fusedssim_grads grads = FUSEDSSIM_GRAD_X;
    fusedssim_params params = FUSEDSSIM_PARAMS_DEFAULT;
    std::vector<int> layout = {};  // of x, y and their gradients
    std::int64_t shift = 0, pad = 0;
    int mask = -1;                   // a dtype, or none
    int y_dtype = -1;                // or that of x
    std::vector<int> y_layout = {};  // or that of x
    std::int64_t y_pad = -1;         // or that of x
    bool y_is_flipped = false;       // along all axes
    bool is_bright = false;          // images of little contrast, and an upstream gradient below 0

    fusedssim_dtype of_y() const { return y_dtype < 0 ? dtype : y_dtype; }
    // The image whose dtype says what the arithmetic is.
    bool is_y_chosen() const { return fusedssim_grad_dtype(dtype) < 0; }
    fusedssim_dtype arithmetic() const {
        return params.arithmetic == FUSEDSSIM_FLOAT64 ? FUSEDSSIM_FLOAT64
                                                      : fusedssim_arithmetic_dtype(is_y_chosen() ? of_y() : dtype);
    }

    std::string name() const {
        std::string text;
        for (const std::int64_t n : shape) text += (text.empty() ? "" : "x") + std::to_string(n);
        const int numbers[] = {dtype,
                               int(call),
                               int(grads),
                               params.padding,
                               params.reduction,
                               params.window_size,
                               params.objective,
                               mask,
                               params.mask_mode,
                               int(shift),
                               int(pad),
                               y_dtype,
                               params.arithmetic,
                               params.sample_covariance,
                               params.axis_window_size[2],
                               int(y_layout.size()),
                               int(y_pad),
                               y_is_flipped,
                               int(100 * params.variance_grad_scale)};
        const char* const names[] = {"dtype",    "call",      "grads",        "padding",    "reduction",
                                     "window",   "objective", "mask",         "mask_mode",  "shift",
                                     "pad",      "y_dtype",   "arithmetic",   "covariance", "window_x",
                                     "y_layout", "y_pad",     "y_is_flipped", "variances"};
        for (std::size_t i = 0; i < sizeof numbers / sizeof *numbers; ++i)
            text += std::string(" ") + names[i] + " " + std::to_string(numbers[i]);
        return text;
    }
};

struct Results {
    Array out, grad_x, grad_y;
};

void require(fusedssim_status status, const char* what) {
    if (status == FUSEDSSIM_OK) return;
    std::fprintf(stderr, "%s: %s\n", what, fusedssim_last_error());
    std::exit(1);
}

Extents shape_of_out(const Case& c) {
    switch (c.params.reduction) {
        case FUSEDSSIM_REDUCTION_MEAN:
        case FUSEDSSIM_REDUCTION_SUM: return {};
        case FUSEDSSIM_REDUCTION_PER_IMAGE: return {c.shape[0]};
        case FUSEDSSIM_REDUCTION_PER_PLANE: return {c.shape[0], c.shape[1]};
        default: break;
    }
    Extents shape = c.shape;
    if (c.params.padding == FUSEDSSIM_PADDING_VALID)
        for (std::size_t i = 2; i < shape.size(); ++i) {
            const int own = c.params.axis_window_size[i + 3 - shape.size()];
            shape[i] -= (own ? own : c.params.window_size) - 1;
        }
    return shape;
}

Results run(const Case& c, fusedssim_device device, const Array& x, const Array& y, const Array& mask,
            const Array& grad_out) {
    fusedssim_params params = c.params;
    params.mask = mask.pointer();
    fusedssim_exec exec = FUSEDSSIM_EXEC_DEFAULT;
    exec.device = device;
    exec.cpu_threads = 1;
    fusedssim_ms_params ms = {sizeof ms, 2, {0.3, 0.7}};
    const bool has_grads = c.call != Call::forward;

    Results r;
    if (c.call != Call::backward && c.call != Call::backward_saved) r.out = Array(c.arithmetic(), shape_of_out(c));
    if (has_grads && c.grads & FUSEDSSIM_GRAD_X) r.grad_x = Array(c.dtype, c.shape, c.layout, c.shift, c.pad);
    if (has_grads && c.grads & FUSEDSSIM_GRAD_Y) r.grad_y = Array(c.of_y(), c.shape, c.layout, c.shift, c.pad);

    const fusedssim_grads grads = has_grads ? c.grads : fusedssim_grads(FUSEDSSIM_GRAD_NONE);
    const auto with_workspace = [&](fusedssim_op op, fusedssim_grads wanted, const auto& call) {
        std::size_t workspace_bytes = 0;
        if (c.call == Call::multi_scale)
            require(fusedssim_ms_workspace_size(&params, &ms, &exec, wanted, &x.tensor, &y.tensor, &workspace_bytes),
                    "size");
        else
            require(fusedssim_workspace_size(&params, &exec, op, wanted, &x.tensor, &y.tensor, &workspace_bytes),
                    "size");
        const std::unique_ptr<unsigned char[]> workspace(new unsigned char[workspace_bytes + 1]);
        std::memset(workspace.get(), 0xff, workspace_bytes);
        exec.workspace = workspace.get();
        exec.workspace_bytes = workspace_bytes;
        require(call(), c.name().c_str());
    };
    switch (c.call) {
        case Call::forward:
            with_workspace(FUSEDSSIM_OP_FORWARD, grads, [&] {
                return fusedssim_forward(&params, &exec, &x.tensor, &y.tensor, &r.out.tensor, nullptr, 0);
            });
            break;
        case Call::value_and_grad:
            with_workspace(FUSEDSSIM_OP_VALUE_AND_GRAD, grads, [&] {
                return fusedssim_value_and_grad(&params, &exec, &x.tensor, &y.tensor, &r.out.tensor, r.grad_x.pointer(),
                                                r.grad_y.pointer());
            });
            break;
        case Call::multi_scale:
            with_workspace(0, grads, [&] {
                if (!c.grads) return fusedssim_ms_forward(&params, &ms, &exec, &x.tensor, &y.tensor, &r.out.tensor);
                return fusedssim_ms_value_and_grad(&params, &ms, &exec, &x.tensor, &y.tensor, &r.out.tensor,
                                                   r.grad_x.pointer(), r.grad_y.pointer());
            });
            break;
        default: {
            std::size_t saved_bytes = 0;
            if (c.call == Call::backward_saved)
                require(fusedssim_saved_size(&params, &exec, grads, &x.tensor, &y.tensor, &saved_bytes), "saved size");
            const std::unique_ptr<unsigned char[]> saved(saved_bytes ? new unsigned char[saved_bytes] : nullptr);
            if (saved) {
                std::memset(saved.get(), 0xff, saved_bytes);
                const Array out(c.arithmetic(), shape_of_out(c));
                with_workspace(FUSEDSSIM_OP_FORWARD, FUSEDSSIM_GRAD_NONE, [&] {
                    return fusedssim_forward(&params, &exec, &x.tensor, &y.tensor, &out.tensor, saved.get(),
                                             saved_bytes);
                });
            }
            with_workspace(saved ? FUSEDSSIM_OP_BACKWARD_SAVED : FUSEDSSIM_OP_BACKWARD, grads, [&] {
                return fusedssim_backward(&params, &exec, &x.tensor, &y.tensor, saved.get(), saved_bytes,
                                          &grad_out.tensor, r.grad_x.pointer(), r.grad_y.pointer());
            });
        }
    }
    return r;
}

// |a - b| over |b|, of all elements together; infinite where something is not a number.
double distance(const Array& a, const Array& b) {
    double difference = 0, size = 0;
    for (std::size_t i = 0; i < a.count(); ++i) {
        const double u = a.get(i), v = b.get(i);
        if (!(std::isfinite(u) && std::isfinite(v))) return INFINITY;
        difference += (u - v) * (u - v);
        size += v * v;
    }
    return std::sqrt(difference / (size > 0 ? size : 1));
}

void check(const Case& c) {
    Array x(c.dtype, c.shape, c.layout, c.shift, c.pad),
        y(c.of_y(), c.shape, c.y_layout.empty() ? c.layout : c.y_layout, c.shift, c.y_pad < 0 ? c.pad : c.y_pad), mask,
        grad_out;
    if (c.y_is_flipped) y.flip();
    // The numbers of integers, whose scale makes them values in [0, 1].
    const double of_x = 1 / c.params.x_scale, of_y = 1 / c.params.y_scale;
    const auto contrast = [&](double v) { return c.is_bright ? 0.95 + 1e-3 * v : v; };
    x.fill([&](std::size_t) { return of_x * contrast(uniform()); });
    // Never near x: the gradient of a single element would be little more than rounding.
    y.fill([&](std::size_t i) {
        return of_y * (c.is_bright ? contrast(uniform()) : x.get(i) / of_x * uniform(0.2, 0.8));
    });
    if (c.mask >= 0) {
        mask = Array(c.mask == FUSEDSSIM_BOOL ? FUSEDSSIM_BOOL : c.arithmetic(), c.shape);
        mask.fill([&](std::size_t) { return uniform() < 0.3 ? 0 : c.mask == FUSEDSSIM_BOOL ? 1 : uniform(); });
    }
    if (c.call == Call::backward || c.call == Call::backward_saved) {
        grad_out = Array(c.arithmetic(), shape_of_out(c));
        grad_out.fill([&](std::size_t) { return uniform(-1, c.is_bright ? 0 : 1); });
    }
    if (kSlabs && (c.shape.size() == 4 || c.call == Call::forward)) return;
    const Results cpu = run(c, FUSEDSSIM_CPU, x, y, mask, grad_out),
                  cuda = run(c, FUSEDSSIM_CUDA, x, y, mask, grad_out);
    // Both round in the arithmetic's type, in different orders, and gradients to theirs: 11, 8 and 24 bits.
    const bool is_double = c.arithmetic() == FUSEDSSIM_FLOAT64;
    const double of_value = is_double ? 1e-13 : 4e-6;
    const auto of_gradient = [&](fusedssim_dtype dtype) {
        return dtype == FUSEDSSIM_FLOAT16    ? 1e-3
               : dtype == FUSEDSSIM_BFLOAT16 ? 6e-3
               : dtype == FUSEDSSIM_FLOAT64  ? 1e-11
               : is_double                   ? 1e-7
                                             : 2e-5;
    };
    const auto compare = [&](const char* what, const Array& a, const Array& b, double tolerance) {
        if (!b.tensor.data) return;
        const double d = distance(a, b);
        if (d <= tolerance) return;
        std::fprintf(stderr, "%s: %s differs by %g, at most %g\n", c.name().c_str(), what, d, tolerance);
        ++failures;
    };
    compare("out", cuda.out, cpu.out, of_value);
    compare("grad_x", cuda.grad_x, cpu.grad_x, of_gradient(c.dtype));
    compare("grad_y", cuda.grad_y, cpu.grad_y, of_gradient(c.of_y()));
}

// ---- The groups -----------------------------------------------------------------------------------------------------

constexpr fusedssim_dtype kTypes[] = {FUSEDSSIM_FLOAT32, FUSEDSSIM_FLOAT64, FUSEDSSIM_FLOAT16, FUSEDSSIM_BFLOAT16};
const std::vector<Extents> kImages = {{1, 1, 1, 1},    {1, 2, 5, 4},    {2, 1, 11, 12}, {1, 2, 21, 37},
                                      {1, 1, 13, 240}, {1, 1, 12, 277}, {1, 3, 40, 33}};
const std::vector<Extents> kVolumes = {
    {1, 1, 1, 1, 1}, {1, 1, 3, 5, 7}, {1, 1, 12, 16, 36}, {1, 2, 9, 19, 35}, {2, 1, 20, 11, 32}};

void each_call(const std::vector<Extents>& shapes) {
    for (const fusedssim_dtype dtype : kTypes)
        for (const Extents& shape : shapes)
            for (const fusedssim_padding padding : {FUSEDSSIM_PADDING_SAME, FUSEDSSIM_PADDING_VALID}) {
                if (padding == FUSEDSSIM_PADDING_VALID && *std::min_element(shape.begin() + 2, shape.end()) < 11)
                    continue;
                Case c{shape, dtype};
                c.params.padding = padding;
                c.call = Call::forward;
                check(c);
                c.call = Call::value_and_grad;
                for (const fusedssim_grads grads : {1, 2, 3}) {
                    c.grads = grads;
                    check(c);
                }
            }
}
void images() { each_call(kImages); }
void volumes() { each_call(kVolumes); }

// Rows with other steps, addresses that are not aligned to more than an element.
void layouts() {
    for (const fusedssim_dtype dtype : kTypes)
        for (const Extents& shape : {Extents{2, 3, 14, 38}, Extents{1, 2, 12, 13, 34}, Extents{1, 2, 12, 14, 35}})
            for (const std::int64_t shift : {0, 1})
                for (const std::int64_t pad : {0, 1, 2})
                    for (const bool channels_last : {false, true}) {
                        if (dtype != FUSEDSSIM_FLOAT32 && (channels_last ? pad != 0 : pad == 2))
                            continue;  // as with float32
                        Case c{shape, dtype};
                        c.grads = 3;
                        c.shift = shift;
                        c.pad = pad;
                        if (channels_last)
                            c.layout =
                                shape.size() == 4 ? std::vector<int>{0, 2, 3, 1} : std::vector<int>{0, 2, 3, 4, 1};
                        check(c);
                        c.call = Call::forward;
                        check(c);
                    }
    // Strips of channels take turns, if no plane has a value of its own.
    for (const Extents& shape : {Extents{2, 3, 20, 520}, Extents{1, 5, 9, 300}})
        for (const fusedssim_reduction reduction :
             {FUSEDSSIM_REDUCTION_SUM, FUSEDSSIM_REDUCTION_PER_IMAGE, FUSEDSSIM_REDUCTION_PER_PLANE})
            for (const int window : {11, 21})
                for (const bool both : {false, true}) {
                    if (!both && window != 11) continue;
                    Case c{shape};
                    c.layout = {0, 2, 3, 1};
                    if (!both) c.y_layout = {0, 1, 2, 3};
                    c.params.reduction = reduction;
                    c.params.window_size = window;
                    c.grads = 1;
                    for (const Call call : {Call::forward, Call::value_and_grad}) {
                        c.call = call;
                        check(c);
                    }
                }
}

void reductions() {
    for (const Extents& shape : {Extents{2, 2, 15, 30}, Extents{2, 2, 13, 12, 14}})
        for (const fusedssim_padding padding : {FUSEDSSIM_PADDING_SAME, FUSEDSSIM_PADDING_VALID})
            for (const fusedssim_reduction reduction : {1, 2, 3, 4})
                for (const fusedssim_objective objective : {FUSEDSSIM_OBJECTIVE_SSIM, FUSEDSSIM_OBJECTIVE_LOSS}) {
                    if (objective == FUSEDSSIM_OBJECTIVE_LOSS && padding == FUSEDSSIM_PADDING_VALID && reduction == 4)
                        continue;
                    Case c{shape};
                    c.grads = 3;
                    c.params.padding = padding;
                    c.params.reduction = reduction;
                    c.params.objective = objective;
                    for (const Call call :
                         {Call::forward, Call::value_and_grad, Call::backward, Call::backward_saved}) {
                        c.call = call;
                        check(c);
                    }
                }
}

void masks() {
    for (const Extents& shape : {Extents{1, 2, 15, 30}, Extents{1, 2, 13, 12, 15}})
        for (const fusedssim_dtype dtype : {FUSEDSSIM_FLOAT32, FUSEDSSIM_FLOAT64, FUSEDSSIM_FLOAT16})
            for (const int mask : {FUSEDSSIM_BOOL, FUSEDSSIM_FLOAT32}) {
                if (dtype != FUSEDSSIM_FLOAT32 && mask == FUSEDSSIM_BOOL) continue;  // as with float32
                for (const fusedssim_mask_mode mode : {FUSEDSSIM_MASK_WEIGHT, FUSEDSSIM_MASK_NORMALIZED})
                    for (const fusedssim_reduction reduction : {0, 3, 4})
                        for (const Call call : {Call::forward, Call::value_and_grad, Call::backward}) {
                            Case c{shape, dtype};
                            c.grads = 3;
                            c.mask = mask;
                            c.params.mask_mode = mode;
                            c.params.reduction = reduction;
                            c.params.objective = FUSEDSSIM_OBJECTIVE_LOSS;
                            c.call = call;
                            check(c);
                        }
            }
    // A strip that begins at a column which is a multiple of 4 alone.
    for (const int mask : {FUSEDSSIM_BOOL, FUSEDSSIM_FLOAT32}) {
        Case c{{1, 2, 3, 488}};
        c.call = Call::forward;
        c.mask = mask;
        check(c);
    }
}

void windows() {
    for (const Extents& shape : {Extents{1, 1, 21, 40}, Extents{1, 1, 11, 12, 18}})
        for (const fusedssim_dtype dtype : kTypes)
            for (const int size : {1, 5, 7, 13, 19, 33})
                for (const fusedssim_grads grads : {1, 3})
                    for (const fusedssim_objective objective : {FUSEDSSIM_OBJECTIVE_SSIM, FUSEDSSIM_OBJECTIVE_LOSS}) {
                        Case c{shape, dtype};
                        c.grads = grads;
                        c.params.window_size = size;
                        c.params.sigma = size / 5.0;
                        c.params.objective = objective;
                        check(c);
                        c.call = Call::forward;
                        check(c);
                    }
}

constexpr fusedssim_padding kBorders[] = {FUSEDSSIM_PADDING_REFLECT, FUSEDSSIM_PADDING_SYMMETRIC,
                                          FUSEDSSIM_PADDING_REPLICATE};

// Images smaller than a window, of one element along an axis, of several strips or tiles; windows of both buckets, and
// other ones for each axis.
void borders() {
    const std::vector<Extents> shapes = {{1, 1, 1, 1},     {1, 1, 1, 30},     {1, 2, 5, 4},       {1, 1, 21, 37},
                                         {1, 1, 13, 277},  {1, 1, 1, 1, 1},   {1, 1, 2, 3, 7},    {1, 1, 9, 19, 35},
                                         {2, 1, 1, 33, 5}, {1, 1, 14, 1, 40}, {1, 1, 12, 18, 36}, {1, 1, 19, 6, 7}};
    for (const Extents& shape : shapes)
        for (const fusedssim_padding padding : kBorders)
            for (const fusedssim_dtype dtype : {FUSEDSSIM_FLOAT32, FUSEDSSIM_FLOAT64, FUSEDSSIM_BFLOAT16})
                for (const int window : {11, 17}) {
                    const bool is_large = Array(FUSEDSSIM_FLOAT32, shape).count() > 1000;
                    if (dtype != FUSEDSSIM_FLOAT32 && (window != 11 || is_large)) continue;  // as with float32
                    Case c{shape, dtype};
                    c.params.padding = padding;
                    c.params.window_size = window;
                    c.params.sigma = window / 5.0;
                    for (const fusedssim_grads grads : {1, 3}) {
                        c.grads = grads;
                        check(c);
                    }
                    c.call = Call::forward;
                    c.params.objective = FUSEDSSIM_OBJECTIVE_LOSS;
                    check(c);
                    c.call = Call::backward;
                    c.params.reduction = FUSEDSSIM_REDUCTION_NONE;
                    check(c);
                }
    for (const Extents& shape : {Extents{1, 2, 15, 30}, Extents{1, 2, 13, 12, 15}})
        for (const fusedssim_padding padding : kBorders)
            for (const fusedssim_mask_mode mode : {FUSEDSSIM_MASK_WEIGHT, FUSEDSSIM_MASK_NORMALIZED})
                for (const Call call : {Call::forward, Call::value_and_grad, Call::backward_saved}) {
                    Case c{shape};
                    c.grads = 3;
                    c.mask = FUSEDSSIM_FLOAT32;
                    c.params.padding = padding;
                    c.params.mask_mode = mode;
                    c.params.objective = FUSEDSSIM_OBJECTIVE_LOSS;
                    c.call = call;
                    check(c);
                }
}

// Images of integers, alone or beside others; float64 for what has fewer bits.
void dtypes() {
    const auto scale_of = [](int dtype) {
        return dtype == FUSEDSSIM_UINT8    ? 1.0 / 255
               : dtype == FUSEDSSIM_UINT16 ? 1.0 / 65535
               : dtype == FUSEDSSIM_INT16  ? 1.0 / 32767
                                           : 1.0;
    };
    constexpr fusedssim_dtype kIntegers[] = {FUSEDSSIM_UINT8, FUSEDSSIM_UINT16, FUSEDSSIM_INT16};
    for (const Extents& shape : {Extents{2, 3, 14, 38}, Extents{1, 2, 12, 13, 34}})
        for (const fusedssim_dtype integer : kIntegers)
            for (const int other : {FUSEDSSIM_FLOAT32, FUSEDSSIM_FLOAT64, FUSEDSSIM_FLOAT16, FUSEDSSIM_BFLOAT16,
                                    FUSEDSSIM_UINT8, FUSEDSSIM_INT16})
                for (const fusedssim_dtype arithmetic : {FUSEDSSIM_FLOAT32, FUSEDSSIM_FLOAT64}) {
                    Case c{shape, integer};
                    c.y_dtype = other;
                    c.params.x_scale = scale_of(integer);
                    c.params.y_scale = scale_of(other);
                    c.params.arithmetic = arithmetic;
                    c.params.sample_covariance = 1;
                    c.params.objective = FUSEDSSIM_OBJECTIVE_LOSS;
                    c.layout = shape.size() == 4 ? std::vector<int>{0, 2, 3, 1} : std::vector<int>{};
                    c.call = Call::forward;
                    check(c);
                    c.call = Call::value_and_grad;
                    c.grads = FUSEDSSIM_GRAD_Y;
                    if (fusedssim_grad_dtype(other) < 0) continue;
                    check(c);
                    std::swap(c.dtype, c.y_dtype);
                    std::swap(c.params.x_scale, c.params.y_scale);
                    c.grads = FUSEDSSIM_GRAD_X;
                    check(c);
                    if (arithmetic == FUSEDSSIM_FLOAT64) continue;
                    c.call = Call::multi_scale;
                    c.params.objective = FUSEDSSIM_OBJECTIVE_SSIM;
                    check(c);
                }
    for (const fusedssim_dtype dtype : {FUSEDSSIM_FLOAT32, FUSEDSSIM_FLOAT16})
        for (const Extents& shape : {Extents{1, 1, 14, 38}, Extents{1, 1, 12, 13, 34}}) {
            Case c{shape, dtype};
            c.params.arithmetic = FUSEDSSIM_FLOAT64;
            c.grads = 3;
            check(c);
        }
}

// Windows and strides that differ: between axes, and between images.
void axes() {
    for (const Extents& shape : {Extents{1, 2, 25, 42}, Extents{1, 1, 13, 22, 35}})
        for (const fusedssim_padding padding :
             {FUSEDSSIM_PADDING_SAME, FUSEDSSIM_PADDING_VALID, FUSEDSSIM_PADDING_REFLECT, FUSEDSSIM_PADDING_REPLICATE})
            for (const int last : {1, 7, 11, 21}) {
                Case c{shape};
                c.params.padding = padding;
                c.params.axis_window_size[0] = 5;
                c.params.axis_window_size[1] = 9;
                c.params.axis_window_size[2] = last;
                c.params.axis_sigma[1] = 2.5;
                for (const fusedssim_grads grads : {1, 3}) {
                    c.grads = grads;
                    check(c);
                }
                c.call = Call::forward;
                c.params.reduction = FUSEDSSIM_REDUCTION_NONE;
                check(c);
            }
    for (const fusedssim_dtype dtype : kTypes)
        for (const int window : {7, 15}) {
            Case c{{2, 2, 13, 22, 35}, dtype};
            c.params.window_size = window;
            c.grads = 3;
            c.y_layout = {0, 1, 4, 3, 2};
            check(c);
            c.layout = {0, 2, 4, 3, 1};
            c.call = Call::forward;
            check(c);
        }
}

// Volumes whose elements cannot be loaded in pairs: rows of odd lengths, targets with other strides.
void strides() {
    const auto check_calls = [](Case c) {
        c.grads = 3;
        check(c);
        c.grads = FUSEDSSIM_GRAD_X;
        c.call = Call::backward_saved;
        check(c);
        c.call = Call::forward;
        c.params.objective = FUSEDSSIM_OBJECTIVE_LOSS;
        check(c);
    };
    for (const fusedssim_dtype dtype : kTypes)
        for (const int window : {1, 3, 5, 7, 11}) {
            if (dtype != FUSEDSSIM_FLOAT32 && window != 11) continue;  // as with float32
            Case c{{1, 1, 12, 15, 35}, dtype};
            c.params.window_size = window;
            check_calls(c);
            c.shape = {2, 1, 11, 18, 34};
            for (const std::int64_t pad : {2, 3}) {  // a crop
                c.y_pad = pad;
                check_calls(c);
            }
            if (window == 5 || window == 7) continue;
            c.y_is_flipped = true;
            check_calls(c);
            c.y_is_flipped = false;
            c.y_layout = {0, 1, 4, 3, 2};
            check_calls(c);
        }
    // With all else that the kernels can do.
    for (const fusedssim_reduction reduction : {FUSEDSSIM_REDUCTION_NONE, FUSEDSSIM_REDUCTION_PER_IMAGE})
        for (const int mask : {-1, int(FUSEDSSIM_BOOL)})
            for (const fusedssim_padding padding : {FUSEDSSIM_PADDING_SAME, FUSEDSSIM_PADDING_VALID}) {
                Case c{{2, 1, 12, 13, 38}};
                c.y_pad = 3;
                c.mask = mask;
                c.grads = 3;
                c.params.reduction = reduction;
                c.params.padding = padding;
                if (padding == FUSEDSSIM_PADDING_SAME) c.params.objective = FUSEDSSIM_OBJECTIVE_LOSS;
                for (const Call call : {Call::forward, Call::value_and_grad, Call::backward}) {
                    c.call = call;
                    check(c);
                }
            }
}

// Both images in memory in another order than that of their axes: all orders, for what has strides or differs between
// axes; and images whose orders differ in part.
void orders() {
    const auto each_order = [](const Extents& shape, auto f) {
        std::vector<int> spatial;
        for (int axis = 2; axis < int(shape.size()); ++axis) spatial.push_back(axis);
        do {
            std::vector<int> layout = {0, 1};
            layout.insert(layout.end(), spatial.begin(), spatial.end());
            f(layout);
        } while (std::next_permutation(spatial.begin(), spatial.end()));
    };
    // The last ones have axes of one element, and short ones, which stay what they are.
    for (const Extents& shape :
         {Extents{1, 2, 35, 41}, Extents{1, 1, 32, 33, 35}, Extents{1, 1, 4, 40, 1}, Extents{1, 1, 40, 1, 12},
          Extents{1, 1, 40, 6, 35}, Extents{2, 1, 40, 1}, Extents{1, 2, 300, 7}})
        each_order(shape, [&](const std::vector<int>& layout) {
            Case c{shape};
            c.layout = layout;
            c.grads = 3;
            check(c);
            c.call = Call::backward_saved;
            c.grads = FUSEDSSIM_GRAD_Y;
            check(c);
            c.params.axis_window_size[0] = 5;
            c.params.axis_window_size[1] = 9;
            c.params.axis_sigma[1] = 2.5;
            c.call = Call::value_and_grad;
            c.mask = FUSEDSSIM_FLOAT32;
            c.params.objective = FUSEDSSIM_OBJECTIVE_LOSS;
            check(c);
            if (shape.back() < 35) return;
            c = {shape, FUSEDSSIM_FLOAT32, Call::multi_scale};
            c.layout = layout;
            check(c);
            if (shape[2] == 40) return;
            c.params.axis_window_size[0] = 5;
            c.params.axis_window_size[1] = 3;
            c.params.padding = FUSEDSSIM_PADDING_VALID;
            c.params.reduction = FUSEDSSIM_REDUCTION_NONE;
            c.call = Call::value_and_grad;
            check(c);
            c.params.padding = FUSEDSSIM_PADDING_REFLECT;
            c.call = Call::backward;
            check(c);
        });
    for (const std::vector<int>& y_layout : {std::vector<int>{0, 1, 2, 3, 4}, {0, 1, 3, 4, 2}, {0, 1, 2, 4, 3}}) {
        Case c{{1, 1, 32, 33, 35}};
        c.layout = {0, 1, 4, 3, 2};
        c.y_layout = y_layout;
        check(c);
    }
}

// A gradient that lacks a factor, as scikit-image's does: also of what else the usual kernels would compute.
void variance_grad_scale() {
    for (const Extents& shape : {Extents{1, 2, 25, 42}, Extents{1, 1, 13, 22, 35}})
        for (const fusedssim_dtype dtype : kTypes)
            for (const fusedssim_padding padding : {FUSEDSSIM_PADDING_SAME, FUSEDSSIM_PADDING_SYMMETRIC})
                for (const int window : {7, 15}) {
                    Case c{shape, dtype};
                    c.params.variance_grad_scale = 0.75;
                    c.params.padding = padding;
                    c.params.window_size = window;
                    c.params.sample_covariance = 1;
                    for (const fusedssim_grads grads : {1, 3}) {
                        c.grads = grads;
                        for (const Call call : {Call::value_and_grad, Call::backward_saved}) {
                            c.call = call;
                            check(c);
                        }
                    }
                    c.call = Call::value_and_grad;
                    c.params.sample_covariance = 0;
                    c.mask = FUSEDSSIM_BOOL;
                    c.params.mask_mode = FUSEDSSIM_MASK_NORMALIZED;
                    check(c);
                }
}

void multi_scale() {
    for (const Extents& shape : {Extents{2, 2, 25, 32}, Extents{1, 1, 14, 13, 16}})
        for (const fusedssim_dtype dtype : kTypes) {
            Case c{shape, dtype, Call::multi_scale};
            for (const fusedssim_grads grads : {0, 1, 3}) {
                c.grads = grads;
                check(c);
            }
        }
    // Levels that the pass before writes: a strip whose first block begins anywhere, several of them, odd sizes.
    for (const Extents& shape : {Extents{1, 2, 34, 300}, Extents{3, 1, 70, 22}, Extents{1, 1, 24, 502},
                                 Extents{1, 1, 23, 40}, Extents{1, 1, 24, 41}})
        for (const int window : {5, 11}) {
            Case c{shape, FUSEDSSIM_FLOAT32, Call::multi_scale};
            c.params.window_size = window;
            for (const fusedssim_grads grads : {0, 1}) {
                c.grads = grads;
                check(c);
                c.shift = c.pad = 1;
                check(c);
                c.shift = c.pad = 0;
            }
        }
}

// A gradient times a scale: of all, of an image, of a plane; where it is dense and where it has gaps.
void scale() {
    for (const fusedssim_dtype dtype : kTypes)
        for (const Extents& shape : {Extents{2, 3, 5, 7}, Extents{2, 3, 4, 5, 6}})
            for (const std::size_t axes : {0u, 1u, 2u})
                for (const std::int64_t pad : {0, 1}) {
                    Array factors(fusedssim_arithmetic_dtype(dtype),
                                  Extents(shape.begin(), shape.begin() + std::ptrdiff_t(axes)));
                    factors.fill([](std::size_t i) { return i == 1 ? 0.5 : uniform(-2, 2); });  // times 2: 1
                    Array cpu(dtype, shape, {}, 0, pad), cuda(dtype, shape, {}, 0, pad);
                    cpu.fill([](std::size_t) { return uniform(-1, 1); });
                    cuda.fill([&](std::size_t i) { return cpu.get(i); });
                    fusedssim_exec exec = FUSEDSSIM_EXEC_DEFAULT;
                    require(fusedssim_scale(&exec, 2, &factors.tensor, &cpu.tensor), "scale");
                    exec.device = FUSEDSSIM_CUDA;
                    require(fusedssim_scale(&exec, 2, &factors.tensor, &cuda.tensor), "scale");
                    if (distance(cuda, cpu) == 0) continue;  // one product and one rounding, on both
                    std::fprintf(stderr, "scale: dtype %d, %d axes, pad %d\n", dtype, int(axes), int(pad));
                    ++failures;
                }
}

// What the planner makes of it has several blocks for each of its ways to cut: pieces, strips, chunks, tiles.
void larger() {
    // The last two have more sums than a last block adds up.
    for (const Extents& shape : {Extents{1, 2, 83, 250}, Extents{3, 1, 37, 480}, Extents{1, 1, 24, 34, 70},
                                 Extents{30, 40, 2, 3}, Extents{30, 40, 2, 1, 3}})
        for (const int window : {11, 7}) {
            if (window == 7 && shape[0] > 3) continue;  // as with 11 taps
            Case c{shape};
            c.params.window_size = window;
            check(c);
            c.call = Call::forward;
            c.params.objective = FUSEDSSIM_OBJECTIVE_LOSS;
            check(c);
        }
}

// Planes side by side in a sheet: of one strip and of several, of other widths than a multiple of what threads take,
// with gaps in memory, and in another order there than in the sheet.
void sheets() {
    // So many that they fill the device: fewer are not worth a sheet.
    for (const Extents& shape :
         {Extents{30, 3, 24, 32}, Extents{77, 1, 28, 28}, Extents{5, 8, 54, 61}, Extents{360, 3, 2, 7}}) {
        Case c{shape};
        check(c);
        c.params.objective = FUSEDSSIM_OBJECTIVE_LOSS;
        c.grads = FUSEDSSIM_GRAD_Y;
        c.layout = {0, 2, 3, 1};
        check(c);
    }
    for (const int window : {3, 11, 15, 21}) {
        Case c{{25, 5, 21, 29}};
        c.params.window_size = window;
        c.grads = 3;
        c.pad = c.shift = 1;
        if (window < 21) c.params.padding = FUSEDSSIM_PADDING_VALID;
        check(c);
        c.grads = FUSEDSSIM_GRAD_X;
        check(c);
    }
    for (const fusedssim_dtype dtype : kTypes)
        for (const fusedssim_reduction reduction : {FUSEDSSIM_REDUCTION_SUM, FUSEDSSIM_REDUCTION_PER_IMAGE}) {
            Case c{{30, 8, 12, 17}, dtype, Call::forward};
            c.params.reduction = reduction;
            check(c);
        }
}

// What volumes in slabs have besides what all have: planes that are taken whole, one or more at a time, and such that
// are not; slabs of one row of tiles and of several; a height that is no multiple of a slab's or a tile's.
void slabs() {
    fusedssim_params params = FUSEDSSIM_PARAMS_DEFAULT;
    fusedssim_exec exec = FUSEDSSIM_EXEC_DEFAULT;
    exec.device = FUSEDSSIM_CUDA;
    const Array like(FUSEDSSIM_FLOAT32, {1, 1, 4, 60, 5});
    std::size_t bytes = 0;
    require(fusedssim_saved_size(&params, &exec, FUSEDSSIM_GRAD_X, &like.tensor, nullptr, &bytes), "saved size");
    if ((bytes == 0) != kSlabs) {
        std::fprintf(stderr, "slabs: a backward saves %d bytes\n", int(bytes));
        ++failures;
    }
    for (const Extents& shape : {Extents{1, 1, 3, 49, 5}, Extents{3, 3, 2, 20, 5}})
        for (const fusedssim_dtype dtype : kTypes)
            for (const int window : {11, 33}) {
                if (dtype != FUSEDSSIM_FLOAT32 && window != 11) continue;  // as with float32
                Case c{shape, dtype};
                c.params.window_size = window;
                c.params.sigma = window / 6.0;
                c.params.objective = FUSEDSSIM_OBJECTIVE_LOSS;
                for (const fusedssim_grads grads : {1, 3}) {
                    c.grads = grads;
                    check(c);
                }
            }
    for (const Extents& shape : {Extents{1, 1, 3, 500, 6}, Extents{1, 2, 3, 213, 6}, Extents{2, 1, 3, 48, 70},
                                 Extents{1, 1, 40, 64, 5}, Extents{1, 1, 2, 161, 9}}) {
        Case c{shape};
        for (const fusedssim_grads grads : {1, 2, 3}) {
            c.grads = grads;
            check(c);
        }
        if (shape[0] * shape[1] == 1) continue;
        for (const fusedssim_reduction reduction : {2, 3, 4})
            for (const Call call : {Call::value_and_grad, Call::backward}) {
                c.params.reduction = reduction;
                c.call = call;
                check(c);
            }
    }
    for (const Extents& shape : {Extents{1, 1, 11, 49, 11}, Extents{2, 2, 11, 20, 12}})
        for (const fusedssim_padding padding :
             {FUSEDSSIM_PADDING_SAME, FUSEDSSIM_PADDING_VALID, FUSEDSSIM_PADDING_REFLECT, FUSEDSSIM_PADDING_REPLICATE})
            for (const int mask : {-1, int(FUSEDSSIM_MASK_WEIGHT), int(FUSEDSSIM_MASK_NORMALIZED)}) {
                if (shape[0] > 1 && mask == FUSEDSSIM_MASK_WEIGHT) continue;
                Case c{shape};
                c.params.padding = padding;
                if (mask >= 0) {
                    c.mask = FUSEDSSIM_FLOAT32;
                    c.params.mask_mode = mask;
                }
                c.grads = 3;
                check(c);
                c.call = Call::backward;
                c.params.reduction = FUSEDSSIM_REDUCTION_NONE;
                check(c);
            }
}

// Calls that differ in all that decides which kernels they take. Each kernel that there is has to be among those.
void kernels() {
    constexpr fusedssim_dtype kImageTypes[] = {FUSEDSSIM_FLOAT32, FUSEDSSIM_FLOAT64, FUSEDSSIM_FLOAT16,
                                               FUSEDSSIM_BFLOAT16, FUSEDSSIM_UINT8};
    constexpr int kNone = -1;
    for (const Extents& shape : {Extents{1, 2, 14, 24}, Extents{1, 1, 12, 14, 24}})
        for (const fusedssim_dtype dtype : kImageTypes)
            for (const int window : {7, 11, 17, 21, 33})
                for (const fusedssim_grads grads : {0, 1, 3})
                    for (const int mode : {kNone, int(FUSEDSSIM_MASK_WEIGHT), int(FUSEDSSIM_MASK_NORMALIZED)})
                        for (const fusedssim_objective objective :
                             {FUSEDSSIM_OBJECTIVE_SSIM, FUSEDSSIM_OBJECTIVE_LOSS}) {
                            const bool is_float = dtype != FUSEDSSIM_UINT8;
                            if (!is_float && (grads || mode != kNone)) continue;
                            if (dtype != FUSEDSSIM_FLOAT32 && objective == FUSEDSSIM_OBJECTIVE_LOSS) continue;
                            Case c{shape, dtype};
                            c.call = grads ? Call::value_and_grad : Call::forward;
                            c.grads = grads;
                            c.params.window_size = window;
                            c.params.sigma = window / 7.0;
                            c.params.objective = objective;
                            if (!is_float) c.params.x_scale = c.params.y_scale = 1 / 255.0;
                            if (mode != kNone) {
                                c.mask = objective == FUSEDSSIM_OBJECTIVE_LOSS ? FUSEDSSIM_FLOAT32 : FUSEDSSIM_BOOL;
                                c.params.mask_mode = mode;
                            }
                            check(c);
                            const bool is_wanted =
                                window == 11 ? size_of(dtype) >= 4 : dtype == FUSEDSSIM_FLOAT32 && grads < 3;
                            if (mode != kNone || !is_wanted) continue;
                            c.y_pad = 3;  // another layout than x, and another border
                            check(c);
                            c.params.padding = FUSEDSSIM_PADDING_REFLECT;
                            check(c);
                        }
    // Sheets, and a mask in them; the upstream map in place of a mask.
    for (const int mask : {kNone, int(FUSEDSSIM_BOOL), int(FUSEDSSIM_FLOAT32)})
        for (const fusedssim_grads grads : {0, 1})
            for (const fusedssim_objective objective : {FUSEDSSIM_OBJECTIVE_SSIM, FUSEDSSIM_OBJECTIVE_LOSS})
                for (const fusedssim_padding padding : {FUSEDSSIM_PADDING_SAME, FUSEDSSIM_PADDING_VALID}) {
                    Case c{{24, 4, 24, 33}};
                    c.call = grads ? Call::value_and_grad : Call::forward;
                    c.grads = grads;
                    c.mask = mask;
                    c.params.objective = objective;
                    c.params.padding = padding;
                    check(c);
                    if (mask != kNone || !grads || objective == FUSEDSSIM_OBJECTIVE_LOSS) continue;
                    c.call = Call::backward;
                    c.params.reduction = FUSEDSSIM_REDUCTION_NONE;
                    check(c);
                    c.is_bright = true;
                    check(c);
                }
    scale();
    multi_scale();
    using IsLaunched = int (*)(const char*);
    using namespace fusedssim::platform;
    const auto is_launched = reinterpret_cast<IsLaunched>(find_symbol(load_library(kCudaDriver), "simulated_launch"));
    for (const fusedssim::cuda::Kernel& kernel : fusedssim::cuda::kKernels)
        if (!is_launched(kernel.name)) {
            std::fprintf(stderr, "no check launches %s\n", kernel.name);
            ++failures;
        }
}

struct Group {
    const char* name;
    void (*run)();
} const kGroups[] = {{"images", images},
                     {"volumes", volumes},
                     {"layouts", layouts},
                     {"reductions", reductions},
                     {"masks", masks},
                     {"windows", windows},
                     {"borders", borders},
                     {"dtypes", dtypes},
                     {"axes", axes},
                     {"orders", orders},
                     {"multi_scale", multi_scale},
                     {"scale", scale},
                     {"larger", larger},
                     {"sheets", sheets},
                     {"strides", strides},
                     {"slabs", slabs},
                     {"kernels", kernels},
                     {"variance_grad_scale", variance_grad_scale}};

}  // namespace

int main(int argc, char** argv) {
    fusedssim_info info{};
    info.struct_size = sizeof info;
    require(fusedssim_get_info(&info), "info");
    if (*info.cuda_problem) {
        std::fprintf(stderr, "no simulated device: %s\n", info.cuda_problem);
        return 1;
    }
    fusedssim_cuda_device_info device{};
    device.struct_size = sizeof device;
    require(fusedssim_get_cuda_device_info(0, &device), "device");
    if (std::strcmp(device.name, "simulated") != 0) {
        std::fprintf(stderr, "this is a real device: %s\n", device.name);
        return 1;
    }
    bool found = false;
    for (const Group& group : kGroups)
        if (argc < 2 || !std::strcmp(argv[1], group.name)) {
            found = true;
            random_bits.seed();  // a group is the same alone and among others
            group.run();
        }
    if (!found) std::fprintf(stderr, "no group %s\n", argv[1]);
    if (failures) std::fprintf(stderr, "%d failed\n", failures);
    return failures || !found;
}
