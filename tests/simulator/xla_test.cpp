// SPDX-License-Identifier: MIT
//
// The handlers of src/cpp/python/xla.cpp, called as XLA calls them, with frames made by hand: on the CPU and on the
// simulated device. What they compute is compared with calls of the C interface.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "fusedssim/fusedssim.h"
#include "platform.h"
#include "xla.h"

namespace {

int failures = 0;

void expect(bool condition, const std::string& what) {
    if (condition) return;
    ++failures;
    std::fprintf(stderr, "failed: %s\n", what.c_str());
}

// ---- XLA's side -----------------------------------------------------------------------------------------------------

struct Told {
    std::string text;
    int32_t code = 0;
};
Told told;                 // the last error that a handler made
int stream_marker = 0;     // its address is the stream
int32_t device_index = 0;  // of the call
bool has_stream = true;

xla_ffi::Error* as_error(Told* error) { return reinterpret_cast<xla_ffi::Error*>(error); }
Told no_stream{"there is no stream", 13};

xla_ffi::Error* make_error(xla_ffi::MakeErrorArguments* arguments) {
    told = {arguments->message, arguments->code};
    return as_error(&told);
}
xla_ffi::Error* get_stream(xla_ffi::GetStreamArguments* arguments) {
    if (!has_stream) return as_error(&no_stream);
    arguments->stream = &stream_marker;
    return nullptr;
}
xla_ffi::Error* get_device(xla_ffi::GetDeviceArguments* arguments) {
    arguments->device = device_index;
    return nullptr;
}

xla_ffi::Api make_api() {
    xla_ffi::Api api{};
    api.size = sizeof api;
    api.version = {sizeof api.version, nullptr, xla_ffi::kMajor, xla_ffi::kMinor};
    api.make_error = make_error;
    api.get_stream = get_stream;
    api.get_device = get_device;
    return api;
}

// A frame, and the memory of all that hangs on it.
class Frame {
public:
    Frame() {
        set("padding", int32_t{FUSEDSSIM_PADDING_SAME});
        set("reduction", int32_t{FUSEDSSIM_REDUCTION_MEAN});
        set_numbers("window_size", std::vector<int32_t>{11});
        set_numbers("sigma", std::vector<double>{1.5});
        set("k1", 0.01);
        set("k2", 0.03);
        set("data_range", 1.0);
        set("sample_covariance", int32_t{0});
        set("arithmetic", int32_t{FUSEDSSIM_FLOAT32});
        set_numbers("integer_scale", std::vector<double>{1.0, 1.0});
        set("normalized", false);
        set("grad_scale", 1.0);
        set("channel_axis", int32_t{1});
        set("grads", int32_t{FUSEDSSIM_GRAD_NONE});
        set("has_mask", false);
        set("has_ranges", false);
        set_text("name1", "first");
        set_text("name2", "second");
    }
    Frame(const Frame&) = delete;
    Frame& operator=(const Frame&) = delete;

    void set(const std::string& name, int32_t value) { set_scalar(name, xla_ffi::kInt32, value); }
    void set(const std::string& name, double value) { set_scalar(name, xla_ffi::kFloat64, value); }
    void set(const std::string& name, bool value) { set_scalar(name, xla_ffi::kBool, value); }
    void set_text(const std::string& name, const char* text) {
        texts_.push_back({text, std::strlen(text)});
        attributes_[name] = {xla_ffi::kTextKind, &texts_.back()};
    }
    void set_numbers(const std::string& name, const std::vector<double>& numbers) {
        set_array(name, xla_ffi::kFloat64, numbers);
    }
    void set_numbers(const std::string& name, const std::vector<int32_t>& numbers) {
        set_array(name, xla_ffi::kInt32, numbers);
    }
    void add_argument(int32_t dtype, void* data, const std::vector<int64_t>& shape) {
        arguments_.push_back(add(dtype, data, shape));
    }
    void add_result(int32_t dtype, void* data, const std::vector<int64_t>& shape) {
        results_.push_back(add(dtype, data, shape));
    }

    // Calls the handler; what it returns.
    Told* call(xla_ffi::Handler* handler, int32_t stage = xla_ffi::kExecuteStage,
               xla_ffi::Extension* extension = nullptr) {
        std::vector<int32_t> kinds, buffer_kinds(arguments_.size() + results_.size(), xla_ffi::kBufferKind);
        std::deque<xla_ffi::Text> names;
        std::vector<xla_ffi::Text*> name_pointers;
        std::vector<void*> items;
        for (auto& [name, item] : attributes_) {  // sorted by name
            names.push_back({name.data(), name.size()});
            name_pointers.push_back(&names.back());
            kinds.push_back(item.kind);
            items.push_back(item.data);
        }
        xla_ffi::Frame frame{};
        frame.size = sizeof frame;
        frame.extensions = extension;
        frame.api = &api;
        frame.stage = stage;
        frame.arguments = {sizeof frame.arguments, nullptr, int64_t(arguments_.size()), buffer_kinds.data(),
                           arguments_.data()};
        frame.results = {sizeof frame.results, nullptr, int64_t(results_.size()), buffer_kinds.data(), results_.data()};
        frame.attributes = {sizeof frame.attributes, nullptr,     int64_t(items.size()), kinds.data(),
                            name_pointers.data(),    items.data()};
        return reinterpret_cast<Told*>(handler(&frame));
    }

    xla_ffi::Api api = make_api();

private:
    struct Item {
        int32_t kind;
        void* data;
    };

    template <typename T>
    void set_scalar(const std::string& name, int32_t dtype, T value) {
        values_.emplace_back(sizeof value);
        std::memcpy(values_.back().data(), &value, sizeof value);
        scalars_.push_back({dtype, values_.back().data()});
        attributes_[name] = {xla_ffi::kScalarKind, &scalars_.back()};
    }
    template <typename T>
    void set_array(const std::string& name, int32_t dtype, const std::vector<T>& numbers) {
        values_.emplace_back(numbers.size() * sizeof(T));
        std::memcpy(values_.back().data(), numbers.data(), values_.back().size());
        arrays_.push_back({dtype, numbers.size(), values_.back().data()});
        attributes_[name] = {xla_ffi::kArrayKind, &arrays_.back()};
    }
    void* add(int32_t dtype, void* data, const std::vector<int64_t>& shape) {
        shapes_.push_back(shape);
        buffers_.push_back(
            {sizeof(xla_ffi::Buffer), nullptr, dtype, data, int64_t(shape.size()), shapes_.back().data()});
        return &buffers_.back();
    }

    // Deques, so that addresses stay.
    std::deque<std::vector<char>> values_;
    std::deque<std::vector<int64_t>> shapes_;
    std::deque<xla_ffi::Scalar> scalars_;
    std::deque<xla_ffi::Text> texts_;
    std::deque<xla_ffi::Array> arrays_;
    std::deque<xla_ffi::Buffer> buffers_;
    std::map<std::string, Item> attributes_;
    std::vector<void*> arguments_, results_;
};

// ---- Calls, in float32 ----------------------------------------------------------------------------------------------

using Shape = std::vector<int64_t>;
using Data = std::vector<float>;

constexpr int32_t kN = 2, kC = 3, kH = 21, kW = 26;
const XlaOperation &kForward = kXlaOperations[0], &kValueAndGrad = kXlaOperations[1], &kBackward = kXlaOperations[2];

Data random_data(size_t count, unsigned seed) {
    std::mt19937 bits(seed);
    Data data(count);
    for (float& value : data) value = std::uniform_real_distribution<float>(0.1f, 1.0f)(bits);
    return data;
}

// [N, C, H, W] with strides for the channels last, if they are.
fusedssim_tensor image_tensor(Data& data, bool last, int64_t c = kC) {
    const int64_t shape[4] = {kN, c, kH, kW};
    fusedssim_tensor tensor = fusedssim_contiguous(data.data(), FUSEDSSIM_FLOAT32, 4, shape);
    if (last) {
        const int64_t strides[4] = {c * kH * kW, 1, c * kW, c};
        std::copy(strides, strides + 4, tensor.stride);
    }
    return tensor;
}
Shape image_shape(bool last, int64_t c = kC) { return last ? Shape{kN, kH, kW, c} : Shape{kN, c, kH, kW}; }

struct Case {
    const char* name;
    bool last = false, mask = false, ranges = false, scales = false, loss = false, taps = false;
    fusedssim_reduction reduction = FUSEDSSIM_REDUCTION_MEAN;
    fusedssim_grads grads = FUSEDSSIM_GRAD_X;
    fusedssim_padding padding = FUSEDSSIM_PADDING_SAME;
    bool axes = false, bytes = false;  // windows for each axis and sample covariance; y is of bytes
};
const Case kCases[] = {
    {"mean"},
    {"both gradients", false, false, false, false, false, false, FUSEDSSIM_REDUCTION_MEAN,
     FUSEDSSIM_GRAD_X | FUSEDSSIM_GRAD_Y},
    {"second gradient", true, false, false, false, false, false, FUSEDSSIM_REDUCTION_SUM, FUSEDSSIM_GRAD_Y},
    {"map, channels last", true, false, false, false, false, false, FUSEDSSIM_REDUCTION_NONE},
    {"each channel, channels last", true, true, true, false, false, false, FUSEDSSIM_REDUCTION_PER_PLANE},
    {"loss with a mask", false, true, false, false, true, false, FUSEDSSIM_REDUCTION_PER_IMAGE},
    {"data ranges, own taps", false, false, true, false, false, true, FUSEDSSIM_REDUCTION_PER_IMAGE},
    {"scales", true, false, false, true, false, false, FUSEDSSIM_REDUCTION_PER_IMAGE},
    {"windows for each axis, reflect", true, false, false, false, false, false, FUSEDSSIM_REDUCTION_NONE,
     FUSEDSSIM_GRAD_X | FUSEDSSIM_GRAD_Y, FUSEDSSIM_PADDING_REFLECT, true},
    {"taps for each axis, symmetric", false, false, false, false, false, true, FUSEDSSIM_REDUCTION_MEAN,
     FUSEDSSIM_GRAD_X, FUSEDSSIM_PADDING_SYMMETRIC, true},
    {"bytes, replicate", false, true, false, false, true, false, FUSEDSSIM_REDUCTION_PER_IMAGE, FUSEDSSIM_GRAD_X,
     FUSEDSSIM_PADDING_REPLICATE, false, true},
};

struct Results {
    Data out, grad_x, grad_y;
};

void compare(const Data& found, const Data& expected, double bound, const std::string& what) {
    double worst = found.size() == expected.size() ? 0.0 : INFINITY, largest = 0.0;
    for (size_t i = 0; i < std::min(found.size(), expected.size()); ++i) {
        worst = std::max(worst, double(std::fabs(found[i] - expected[i])));
        largest = std::max(largest, double(std::fabs(expected[i])));
    }
    expect(worst <= bound * largest, what + ": error " + std::to_string(worst) + " of " + std::to_string(largest));
}

void check_case(const Case& each, bool cuda) {
    const size_t elements = kN * kC * kH * kW;
    Data x = random_data(elements, 1), y = random_data(elements, 2), ranges = {1.0f, 2.0f};
    Data mask = random_data(kN * kH * kW, 3);
    const std::vector<double> taps = {0.05, 0.2, 0.5, 0.2, 0.05}, short_taps = {0.25, 0.5, 0.25}, weights = {0.6, 0.4};
    const Shape out_shape = each.reduction == FUSEDSSIM_REDUCTION_NONE        ? image_shape(each.last)
                            : each.reduction == FUSEDSSIM_REDUCTION_PER_PLANE ? Shape{kN, kC}
                            : each.reduction == FUSEDSSIM_REDUCTION_PER_IMAGE ? Shape{kN}
                                                                              : Shape{};
    size_t out_count = 1;
    for (int64_t size : out_shape) out_count *= size_t(size);
    Data upstream = random_data(out_count, 4);

    // What is expected, by the C interface on the CPU.
    fusedssim_params params = FUSEDSSIM_PARAMS_DEFAULT;
    params.reduction = each.reduction;
    params.grad_scale = 8;
    const fusedssim_tensor tx = image_tensor(x, each.last);
    fusedssim_tensor ty = image_tensor(y, each.last);
    std::vector<uint8_t> bytes_of_y(elements);
    for (size_t i = 0; i < elements; ++i) bytes_of_y[i] = uint8_t(255 * std::min(std::max(y[i], 0.0f), 1.0f));
    if (each.bytes) {
        ty.data = bytes_of_y.data();
        ty.dtype = FUSEDSSIM_UINT8;
        params.y_scale = 1.0 / 255;
    }
    params.padding = each.padding;
    const fusedssim_tensor tmask = image_tensor(mask, each.last, 1);
    const int64_t n = kN;
    const fusedssim_tensor tranges = fusedssim_contiguous(ranges.data(), FUSEDSSIM_FLOAT32, 1, &n);
    if (each.mask) params.mask = &tmask;
    if (each.ranges) params.data_ranges = &tranges;
    if (each.loss) params.objective = FUSEDSSIM_OBJECTIVE_LOSS;
    if (each.taps && !each.axes) params.taps = taps.data(), params.window_size = 5;
    if (each.axes) {
        params.sample_covariance = 1;
        params.axis_window_size[1] = 5;
        params.axis_window_size[2] = 3;
        if (each.taps) {
            params.axis_taps[1] = taps.data();
            params.axis_taps[2] = short_taps.data();
        } else {
            params.axis_sigma[1] = 0.8;
            params.axis_sigma[2] = 0.6;
        }
    }
    fusedssim_ms_params levels = FUSEDSSIM_MS_PARAMS_DEFAULT;
    levels.levels = 2;
    std::copy(weights.begin(), weights.end(), levels.weights);
    const auto value_tensor = [&](Data& data) {
        return each.reduction == FUSEDSSIM_REDUCTION_NONE
                   ? image_tensor(data, each.last)
                   : fusedssim_contiguous(data.data(), FUSEDSSIM_FLOAT32, int32_t(out_shape.size()), out_shape.data());
    };

    for (const XlaOperation* operation : {&kForward, &kValueAndGrad, &kBackward}) {
        if (each.scales && operation == &kBackward) continue;
        const std::string what = std::string(cuda ? "cuda " : "cpu ") + operation->name + ", " + each.name;
        const bool has_out = operation != &kBackward, has_grads = operation != &kForward;
        const fusedssim_grads grads = has_grads ? each.grads : fusedssim_grads{FUSEDSSIM_GRAD_NONE};
        Results expected{Data(out_count), Data(elements), Data(elements)}, found = expected;

        fusedssim_exec exec = FUSEDSSIM_EXEC_DEFAULT;
        const fusedssim_tensor out = value_tensor(expected.out), weight = value_tensor(upstream);
        const fusedssim_tensor gx = image_tensor(expected.grad_x, each.last),
                               gy = image_tensor(expected.grad_y, each.last);
        const fusedssim_tensor *px = grads & FUSEDSSIM_GRAD_X ? &gx : nullptr,
                               *py = grads & FUSEDSSIM_GRAD_Y ? &gy : nullptr;
        const fusedssim_status status =
            each.scales  ? (has_grads ? fusedssim_ms_value_and_grad(&params, &levels, &exec, &tx, &ty, &out, px, py)
                                      : fusedssim_ms_forward(&params, &levels, &exec, &tx, &ty, &out))
            : !has_grads ? fusedssim_forward(&params, &exec, &tx, &ty, &out, nullptr, 0)
            : has_out    ? fusedssim_value_and_grad(&params, &exec, &tx, &ty, &out, px, py)
                         : fusedssim_backward(&params, &exec, &tx, &ty, nullptr, 0, &weight, px, py);
        expect(status == FUSEDSSIM_OK, what + ": " + fusedssim_last_error());

        Frame frame;
        frame.set("reduction", int32_t{each.reduction});
        frame.set("channel_axis", int32_t{each.last ? 3 : 1});
        frame.set("grads", int32_t(grads));
        frame.set("grad_scale", 8.0);
        frame.set("has_mask", each.mask);
        frame.set("has_ranges", each.ranges);
        if (each.loss) frame.set("lambda_dssim", 0.2);
        frame.set("padding", int32_t{each.padding});
        if (each.taps) {
            std::vector<double> all = taps;
            if (each.axes) all.insert(all.end(), short_taps.begin(), short_taps.end());
            frame.set_numbers("taps", all);
            frame.set_numbers("window_size", std::vector<int32_t>{5});
        }
        if (each.axes) {
            frame.set_numbers("window_size", std::vector<int32_t>{5, 3});
            if (!each.taps) frame.set_numbers("sigma", std::vector<double>{0.8, 0.6});
            frame.set("sample_covariance", int32_t{1});
        }
        if (each.bytes) frame.set_numbers("integer_scale", std::vector<double>{1.0, 1.0 / 255});
        if (each.scales) frame.set_numbers("weights", weights);
        frame.add_argument(xla_ffi::kFloat32, x.data(), image_shape(each.last));
        frame.add_argument(each.bytes ? xla_ffi::kUint8 : xla_ffi::kFloat32, ty.data, image_shape(each.last));
        if (each.mask) frame.add_argument(xla_ffi::kFloat32, mask.data(), image_shape(each.last, 1));
        if (each.ranges) frame.add_argument(xla_ffi::kFloat32, ranges.data(), {kN});
        if (has_out) {
            frame.add_result(xla_ffi::kFloat32, found.out.data(), out_shape);
        } else {
            frame.add_argument(xla_ffi::kFloat32, upstream.data(), out_shape);
        }
        if (px) frame.add_result(xla_ffi::kFloat32, found.grad_x.data(), image_shape(each.last));
        if (py) frame.add_result(xla_ffi::kFloat32, found.grad_y.data(), image_shape(each.last));
        size_t bytes = 0;
        exec.device = cuda ? FUSEDSSIM_CUDA : FUSEDSSIM_CPU;
        const fusedssim_op op = !has_grads ? FUSEDSSIM_OP_FORWARD
                                : has_out  ? FUSEDSSIM_OP_VALUE_AND_GRAD
                                           : FUSEDSSIM_OP_BACKWARD;
        if (each.scales) {
            fusedssim_ms_workspace_size(&params, &levels, &exec, grads, &tx, &ty, &bytes);
        } else {
            fusedssim_workspace_size(&params, &exec, op, grads, &tx, &ty, &bytes);
        }
        std::vector<double> workspace(bytes / sizeof(double) + 2);
        if (bytes) frame.add_result(xla_ffi::kUint8, workspace.data(), {int64_t(bytes)});

        const Told* error = frame.call(cuda ? operation->cuda : operation->cpu);
        expect(!error, what + ": " + (error ? error->text : ""));
        const double bound = cuda ? 2e-5 : 0.0;  // on the CPU it is the same call
        if (has_out) compare(found.out, expected.out, bound, what + ": out");
        compare(found.grad_x, expected.grad_x, bound, what + ": gradient of x");
        compare(found.grad_y, expected.grad_y, bound, what + ": gradient of y");
    }
}

// ---- What else XLA asks, and what may go wrong ----------------------------------------------------------------------

struct Simple {
    Data x = random_data(kN * kC * kH * kW, 1), y = random_data(kN * kC * kH * kW, 2), out = {-7.0f};
    std::vector<double> workspace = std::vector<double>(4096);
    Frame frame;

    explicit Simple(int64_t workspace_bytes, int32_t dtype = xla_ffi::kFloat32) {
        frame.add_argument(dtype, x.data(), {kN, kC, kH, kW});
        frame.add_argument(dtype, y.data(), {kN, kC, kH, kW});
        frame.add_result(xla_ffi::kFloat32, out.data(), {});
        if (workspace_bytes) frame.add_result(6, workspace.data(), {workspace_bytes});
    }
};

void check_error(const Told* error, int32_t code, const std::string& text) {
    expect(error && error->code == code && error->text.find(text) != std::string::npos,
           "expected \"" + text + "\", found \"" + (error ? error->text : "no error") + "\"");
}

void check_frames() {
    for (const XlaOperation& operation : kXlaOperations) {
        for (xla_ffi::Handler* handler : {operation.cpu, operation.cuda}) {
            xla_ffi::Metadata metadata{};
            xla_ffi::MetadataExtension extension{{sizeof extension, xla_ffi::kMetadataExtension, nullptr}, &metadata};
            xla_ffi::Extension before{sizeof before, 99, &extension.base};  // one that it does not know
            Frame frame;
            for (const auto& [theirs, ours] : {std::pair{1, 1}, {4, 4}, {7, 4}}) {
                frame.api.version.minor = theirs;
                expect(!frame.call(handler, xla_ffi::kExecuteStage, &before), "metadata");
                expect(metadata.version.major == 0 && metadata.version.minor == ours, "version");
            }
            expect(metadata.traits == (handler == operation.cuda ? 1u : 0u), "traits");
        }
    }
    Simple other_stage(0);
    expect(!other_stage.frame.call(kForward.cpu, 2) && other_stage.out[0] == -7.0f, "nothing runs in another stage");

    Simple right(8192);
    expect(!right.frame.call(kForward.cuda) && right.out[0] > 0, "a larger workspace");
    using LastStream = void* (*)();
    using namespace fusedssim::platform;
    const auto last_stream = reinterpret_cast<LastStream>(find_symbol(load_library(kCudaDriver), "simulated_stream"));
    expect(last_stream && last_stream() == &stream_marker, "the stream of the call");

    device_index = 5;
    check_error(right.frame.call(kForward.cuda), xla_ffi::kInvalidArgument, "device_id = 5");
    device_index = 0;
    has_stream = false;
    expect(right.frame.call(kForward.cuda) == &no_stream, "an error of XLA is handed on");
    has_stream = true;
    right.frame.api.size = offsetof(xla_ffi::Api, get_device);
    check_error(right.frame.call(kForward.cuda), xla_ffi::kInternal, "jax 0.6 does");
    expect(!Simple(0).frame.call(kForward.cpu), "the CPU needs no device");

    check_error(Simple(0).frame.call(kForward.cuda), xla_ffi::kInternal, "workspace");
    check_error(Simple(16).frame.call(kForward.cuda), xla_ffi::kInternal, "workspace");
    check_error(Simple(0, 2).frame.call(kForward.cpu), xla_ffi::kInternal, "fused_ssim: dtype 2");
    Simple bad(0);
    bad.frame.set_numbers("sigma", std::vector<double>{-1.0});
    check_error(bad.frame.call(kForward.cpu), xla_ffi::kInvalidArgument, "sigma = -1, expected a positive number");
    expect(bad.out[0] == -7.0f, "nothing is written by a call that fails");
    Simple small(0);
    small.frame.set("padding", int32_t{FUSEDSSIM_PADDING_VALID});
    small.frame.set_numbers("window_size", std::vector<int32_t>{25});
    check_error(small.frame.call(kForward.cpu), xla_ffi::kInvalidArgument, "first.shape[2] = 21 < window 25");
    Simple more(0);
    more.frame.set("another", 1.0);
    check_error(more.frame.call(kForward.cpu), xla_ffi::kInternal, "the number of attributes");
}

}  // namespace

int main() {
    for (const bool cuda : {false, true})
        for (const Case& each : kCases) check_case(each, cuda);
    check_frames();
    if (failures) std::fprintf(stderr, "%d failed\n", failures);
    return failures != 0;
}
