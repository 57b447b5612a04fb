// SPDX-License-Identifier: MIT
#include "xla.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

#include "fusedssim/fusedssim.h"
#include "names.h"
#include "window_settings.h"

namespace {

enum class Operation { forward, value_and_grad, backward };

// Why a call failed, as XLA is told.
class Failure : public std::runtime_error {
public:
    Failure(int32_t code, const std::string& text) : std::runtime_error(text), code_(code) {}
    int32_t code() const { return code_; }

private:
    int32_t code_;
};

[[noreturn]] void fail(const std::string& text) {
    throw Failure(xla_ffi::kInternal, "fused_ssim: " + text);  // fused_ssim.jax and the handlers do not agree
}

int32_t code_of(fusedssim_status status) {
    switch (status) {
        case FUSEDSSIM_INVALID_ARGUMENT:
        case FUSEDSSIM_INVALID_DTYPE: return xla_ffi::kInvalidArgument;
        case FUSEDSSIM_CUDA_UNAVAILABLE: return xla_ffi::kUnimplemented;
        case FUSEDSSIM_OUT_OF_MEMORY: return xla_ffi::kResourceExhausted;
        default: return xla_ffi::kInternal;  // also for a status of a later version of the library
    }
}

// ---- What a frame holds ---------------------------------------------------------------------------------------------

fusedssim_dtype dtype_of(int32_t dtype) {
    switch (dtype) {
        case xla_ffi::kFloat32: return FUSEDSSIM_FLOAT32;
        case xla_ffi::kFloat64: return FUSEDSSIM_FLOAT64;
        case xla_ffi::kFloat16: return FUSEDSSIM_FLOAT16;
        case xla_ffi::kBfloat16: return FUSEDSSIM_BFLOAT16;
        case xla_ffi::kUint8: return FUSEDSSIM_UINT8;
        case xla_ffi::kUint16: return FUSEDSSIM_UINT16;
        case xla_ffi::kInt16: return FUSEDSSIM_INT16;
        case xla_ffi::kBool: return FUSEDSSIM_BOOL;
        default: fail("dtype " + std::to_string(dtype));
    }
}

template <typename T>
constexpr int32_t kDtype = std::is_same_v<T, double>    ? xla_ffi::kFloat64
                           : std::is_same_v<T, int32_t> ? xla_ffi::kInt32
                           : std::is_same_v<T, bool>    ? xla_ffi::kBool
                                                        : -1;

class Attributes {
public:
    explicit Attributes(const xla_ffi::Attributes& all) : all_(all) {}

    // An integer of 32 bits, a double or a bool.
    template <typename T>
    T get(const char* name) const {
        using Stored = std::conditional_t<std::is_same_v<T, uint32_t>, int32_t, T>;
        const auto* scalar = static_cast<const xla_ffi::Scalar*>(find(name, xla_ffi::kScalarKind));
        ++taken_;
        if (!scalar || scalar->dtype != kDtype<Stored>) fail(std::string("attribute ") + name);
        Stored value;
        std::memcpy(&value, scalar->data, sizeof(value));
        return static_cast<T>(value);
    }

    bool has(const char* name) const { return index_of(name) >= 0; }

    // An array of integers of 32 bits or of doubles.
    template <typename T>
    Numbers<T> numbers(const char* name) const {
        const auto* array = static_cast<const xla_ffi::Array*>(find(name, xla_ffi::kArrayKind));
        ++taken_;
        if (!array || array->dtype != kDtype<T>) fail(std::string("attribute ") + name);
        return {static_cast<const T*>(array->data), array->length};
    }

    std::string text(const char* name) const {
        const auto* text = static_cast<const xla_ffi::Text*>(find(name, xla_ffi::kTextKind));
        return text ? std::string(text->data, text->length) : std::string();
    }

    // An error if there are others than the numbers that were asked for and the two names of images: what a call says
    // must not be ignored.
    void expect_no_more() const {
        if (all_.count != taken_ + 2) fail("the number of attributes");
    }

private:
    const void* find(const char* name, int32_t kind) const {
        const int64_t index = index_of(name);
        return index >= 0 && all_.kinds[index] == kind ? all_.items[index] : nullptr;
    }

    int64_t index_of(std::string_view name) const {
        const auto view = [](const xla_ffi::Text* text) { return std::string_view(text->data, text->length); };
        xla_ffi::Text** const end = all_.names + all_.count;
        xla_ffi::Text** const found = std::lower_bound(
            all_.names, end, name, [&](const xla_ffi::Text* text, auto wanted) { return view(text) < wanted; });
        return found != end && view(*found) == name ? found - all_.names : -1;
    }

    const xla_ffi::Attributes& all_;
    mutable int64_t taken_ = 0;
};

// Takes buffers one by one.
class Buffers {
public:
    explicit Buffers(const xla_ffi::Buffers& all) : all_(all) {}

    bool is_empty() const { return taken_ == all_.count; }

    const xla_ffi::Buffer& next() {
        if (is_empty() || all_.kinds[taken_] != xla_ffi::kBufferKind) fail("the number of arrays");
        return *static_cast<const xla_ffi::Buffer*>(all_.items[taken_++]);
    }

    void expect_end() const {
        if (!is_empty()) fail("the number of arrays");
    }

private:
    const xla_ffi::Buffers& all_;
    int64_t taken_ = 0;
};

fusedssim_tensor contiguous(const xla_ffi::Buffer& buffer) {
    if (buffer.ndim < 0 || buffer.ndim > FUSEDSSIM_MAX_NDIM) fail("the number of axes");
    return fusedssim_contiguous(buffer.data, dtype_of(buffer.dtype), static_cast<int32_t>(buffer.ndim), buffer.shape);
}

// An array [N, ...] with its channels at `channel_axis` as [N, C, ...].
fusedssim_tensor channels_second(const xla_ffi::Buffer& buffer, int32_t channel_axis) {
    fusedssim_tensor tensor = contiguous(buffer);
    if (channel_axis < 1 || channel_axis >= tensor.ndim) fail("the axis of the channels");
    std::rotate(tensor.shape + 1, tensor.shape + channel_axis, tensor.shape + channel_axis + 1);
    std::rotate(tensor.stride + 1, tensor.stride + channel_axis, tensor.stride + channel_axis + 1);
    return tensor;
}

// ---- A call ---------------------------------------------------------------------------------------------------------

struct Settings {
    explicit Settings(const Attributes& attributes) {
        for_each_param([&](const char* name, auto member) {
            params.*member = attributes.get<std::decay_t<decltype(params.*member)>>(name);
        });
        params.grad_scale = attributes.get<double>("grad_scale");
        params.mask_mode = attributes.get<bool>("normalized") ? FUSEDSSIM_MASK_NORMALIZED : FUSEDSSIM_MASK_WEIGHT;
        if (attributes.has("lambda_dssim")) {
            params.objective = FUSEDSSIM_OBJECTIVE_LOSS;
            params.lambda_dssim = attributes.get<double>("lambda_dssim");
        }
        windows.sizes = attributes.numbers<int32_t>("window_size");
        windows.sigmas = attributes.numbers<double>("sigma");
        if (attributes.has("taps")) windows.taps = attributes.numbers<double>("taps");
        const Numbers<double> scales = attributes.numbers<double>("integer_scale");
        if (scales.count != 2) fail("the number of scales");
        params.x_scale = scales.data[0];
        params.y_scale = scales.data[1];
        if (attributes.has("weights")) {
            const Numbers<double> weights = attributes.numbers<double>("weights");
            if (weights.count > FUSEDSSIM_MAX_LEVELS) fail("the number of weights");
            is_multi_scale = true;
            levels.levels = static_cast<int32_t>(weights.count);
            double* const end = std::copy(weights.data, weights.data + weights.count, levels.weights);
            std::fill(end, std::end(levels.weights), 0.0);
        }
    }

    // Completes `params` for images with so many axes.
    void set_windows(int32_t ndim) {
        try {
            ::set_windows(params, windows, static_cast<size_t>(ndim - 2));
        } catch (const std::invalid_argument& error) {
            fail(error.what());
        }
    }

    Windows windows;  // of the frame
    fusedssim_params params = FUSEDSSIM_PARAMS_DEFAULT;
    fusedssim_ms_params levels = FUSEDSSIM_MS_PARAMS_DEFAULT;
    bool is_multi_scale = false;
};

// Where the call runs. An error of XLA's own, or nullptr.
xla_ffi::Error* find_device(const xla_ffi::Frame& frame, fusedssim_exec* exec) {
    const xla_ffi::Api& api = *frame.api;
    if (api.size < offsetof(xla_ffi::Api, get_device) + sizeof(api.get_device)) {
        fail("this version of XLA does not say on which device a call is; jax 0.6 does");
    }
    xla_ffi::GetStreamArguments stream{sizeof(stream), nullptr, frame.context, nullptr};
    if (xla_ffi::Error* error = api.get_stream(&stream)) return error;
    xla_ffi::GetDeviceArguments device{sizeof(device), nullptr, frame.context, 0};
    if (xla_ffi::Error* error = api.get_device(&device)) return error;
    exec->device = FUSEDSSIM_CUDA;
    exec->stream = stream.stream;
    exec->device_id = device.device;
    return nullptr;
}

xla_ffi::Error* execute(const xla_ffi::Frame& frame, fusedssim_device device, Operation operation) {
    const Attributes attributes(frame.attributes);
    Settings settings(attributes);
    const auto channel_axis = attributes.get<int32_t>("channel_axis");
    const auto grads = attributes.get<uint32_t>("grads");
    const bool is_map = settings.params.reduction == FUSEDSSIM_REDUCTION_NONE;
    const auto value = [&](const xla_ffi::Buffer& buffer) {
        return is_map ? channels_second(buffer, channel_axis) : contiguous(buffer);
    };

    const bool has_mask = attributes.get<bool>("has_mask"), has_ranges = attributes.get<bool>("has_ranges");
    attributes.expect_no_more();

    Buffers arguments(frame.arguments), results(frame.results);
    const fusedssim_tensor x = channels_second(arguments.next(), channel_axis);
    const fusedssim_tensor y = channels_second(arguments.next(), channel_axis);
    settings.set_windows(x.ndim);
    fusedssim_tensor mask, ranges, out{}, grad_x{}, grad_y{};
    if (has_mask) {
        mask = channels_second(arguments.next(), channel_axis);
        settings.params.mask = &mask;
    }
    if (has_ranges) {
        ranges = contiguous(arguments.next());
        settings.params.data_ranges = &ranges;
    }
    out = value(operation == Operation::backward ? arguments.next() : results.next());
    arguments.expect_end();
    if (operation != Operation::forward) {
        if (grads & FUSEDSSIM_GRAD_X) grad_x = channels_second(results.next(), channel_axis);
        if (grads & FUSEDSSIM_GRAD_Y) grad_y = channels_second(results.next(), channel_axis);
    }
    const fusedssim_tensor* const wanted_x = grad_x.data ? &grad_x : nullptr;
    const fusedssim_tensor* const wanted_y = grad_y.data ? &grad_y : nullptr;

    fusedssim_exec exec = FUSEDSSIM_EXEC_DEFAULT;
    if (device == FUSEDSSIM_CUDA) {
        if (xla_ffi::Error* error = find_device(frame, &exec)) return error;
    }
    if (!results.is_empty()) {
        const xla_ffi::Buffer& workspace = results.next();
        exec.workspace = workspace.data;
        exec.workspace_bytes = workspace.ndim == 1 ? static_cast<uint64_t>(workspace.shape[0]) : 0;
    }
    results.expect_end();

    const fusedssim_params* const params = &settings.params;
    const fusedssim_ms_params* const levels = &settings.levels;
    fusedssim_status status = FUSEDSSIM_INTERNAL_ERROR;
    switch (operation) {
        case Operation::forward:
            status = settings.is_multi_scale ? fusedssim_ms_forward(params, levels, &exec, &x, &y, &out)
                                             : fusedssim_forward(params, &exec, &x, &y, &out, nullptr, 0);
            break;
        case Operation::value_and_grad:
            status = settings.is_multi_scale
                         ? fusedssim_ms_value_and_grad(params, levels, &exec, &x, &y, &out, wanted_x, wanted_y)
                         : fusedssim_value_and_grad(params, &exec, &x, &y, &out, wanted_x, wanted_y);
            break;
        case Operation::backward:
            if (settings.is_multi_scale) fail("MS-SSIM has no backward of its own");
            status = fusedssim_backward(params, &exec, &x, &y, nullptr, 0, &out, wanted_x, wanted_y);
            break;
    }
    if (status != FUSEDSSIM_OK) {
        const ImageNames names{attributes.text("name1"), attributes.text("name2")};
        throw Failure(code_of(status), error_text(status, names));
    }
    return nullptr;
}

// ---- The handlers ---------------------------------------------------------------------------------------------------

// XLA refuses a handler for a version that is older or newer than what it serves. What is used here is the same in all
// versions so far, so the answer is the older of XLA's version and the newest one that this was written for. An XLA
// that does not show its version here has 0.1.
void describe(const xla_ffi::Frame& frame, fusedssim_device device, xla_ffi::Metadata* metadata) {
    metadata->version.major = xla_ffi::kMajor;
    metadata->version.minor = frame.api ? std::min(frame.api->version.minor, xla_ffi::kMinor) : 1;
    metadata->traits = device == FUSEDSSIM_CUDA ? xla_ffi::kCanBeRecorded : 0;
}

xla_ffi::Error* make_error(const xla_ffi::Frame& frame, int32_t code, const char* text) {
    xla_ffi::MakeErrorArguments arguments{sizeof(arguments), nullptr, text, code};
    return frame.api->make_error(&arguments);
}

template <fusedssim_device device, Operation operation>
xla_ffi::Error* handle(xla_ffi::Frame* frame) {
    for (xla_ffi::Extension* extension = frame->extensions; extension; extension = extension->next) {
        if (extension->kind == xla_ffi::kMetadataExtension) {
            describe(*frame, device, reinterpret_cast<xla_ffi::MetadataExtension*>(extension)->metadata);
            return nullptr;
        }
    }
    if (frame->stage != xla_ffi::kExecuteStage) return nullptr;
    try {
        return execute(*frame, device, operation);
    } catch (const Failure& failure) {
        return make_error(*frame, failure.code(), failure.what());
    } catch (const std::bad_alloc&) {
        return make_error(*frame, xla_ffi::kResourceExhausted, "fused_ssim: out of memory");
    } catch (const std::exception& error) {
        return make_error(*frame, xla_ffi::kInternal, error.what());
    }
}

template <Operation operation>
constexpr XlaOperation with_handlers(const char* name) noexcept {
    return {name, handle<FUSEDSSIM_CPU, operation>, handle<FUSEDSSIM_CUDA, operation>};
}

}  // namespace

const XlaOperation kXlaOperations[3] = {
    with_handlers<Operation::forward>("forward"),
    with_handlers<Operation::value_and_grad>("value_and_grad"),
    with_handlers<Operation::backward>("backward"),
};
