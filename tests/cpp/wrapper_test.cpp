// SPDX-License-Identifier: MIT
//
// The C++ wrapper: `wrapper_test <group>` runs one group of checks, `wrapper_test` all of them. The numbers are tested
// elsewhere; here each call must give what the C call gives that it stands for.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "fusedssim/fusedssim.hpp"

namespace {

namespace fs = fusedssim;

int failures = 0;

#define CHECK(condition)                                                                 \
    do {                                                                                 \
        if (!(condition)) {                                                              \
            std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            ++failures;                                                                  \
        }                                                                                \
    } while (0)

// The call throws an Error of this status, and its text holds these words.
void check_throws(int line, fs::Status status, const char* words, const std::function<void()>& call) {
    try {
        call();
        std::fprintf(stderr, "%s:%d: nothing was thrown\n", __FILE__, line);
        ++failures;
    } catch (const fs::Error& error) {
        if (error.status() != status || !std::strstr(error.what(), words)) {
            std::fprintf(stderr, "%s:%d: status %d, \"%s\"\n", __FILE__, line, static_cast<int>(error.status()),
                         error.what());
            ++failures;
        }
    }
}
#define CHECK_THROWS(status, words, call) check_throws(__LINE__, fs::Status::status, words, [&] { call; })

constexpr std::int64_t kChannels = 2, kHeight = 23, kWidth = 26;
const fs::Extents kShape = {1, kChannels, kHeight, kWidth};
constexpr std::size_t kElements = kChannels * kHeight * kWidth;

struct Images {
    std::vector<float> x = std::vector<float>(kElements), y = x, grad_x = x, grad_y = x;

    Images() {
        for (std::size_t i = 0; i < kElements; ++i) {
            x[i] = static_cast<float>(i * 37 % 101) / 100;
            y[i] = static_cast<float>(i * 53 % 89) / 88;
        }
    }
};

fusedssim_tensor c_tensor(std::vector<float>& data) {
    return fusedssim_contiguous(data.data(), FUSEDSSIM_FLOAT32, 4, kShape.data());
}

void calls() {
    Images images, other;
    fs::Executor executor(1);
    fs::Params params;
    params.window_size = 7;
    params.sigma = 1.25;
    params.padding = fs::Padding::valid;
    params.k1 = 0.02;
    params.k2 = 0.05;
    params.data_range = 1.5;
    params.grad_scale = 3;
    float value = 0, expected = 0;
    const fs::Tensor grad_x(images.grad_x, kShape), grad_y(images.grad_y, kShape);
    const fs::ConstTensor x(images.x, kShape), y(images.y, kShape);
    executor.value_and_grad(params, x, y, fs::scalar(value), grad_x, grad_y);

    fusedssim_params c_params = FUSEDSSIM_PARAMS_DEFAULT;
    c_params.window_size = 7;
    c_params.sigma = 1.25;
    c_params.padding = FUSEDSSIM_PADDING_VALID;
    c_params.k1 = 0.02;
    c_params.k2 = 0.05;
    c_params.data_range = 1.5;
    c_params.grad_scale = 3;
    const fusedssim_exec exec = FUSEDSSIM_EXEC_DEFAULT;
    const fusedssim_tensor c_x = c_tensor(other.x), c_y = c_tensor(other.y);
    const fusedssim_tensor c_grad_x = c_tensor(other.grad_x), c_grad_y = c_tensor(other.grad_y);
    const fusedssim_tensor c_out = fusedssim_contiguous(&expected, FUSEDSSIM_FLOAT32, 0, nullptr);
    CHECK(fusedssim_value_and_grad(&c_params, &exec, &c_x, &c_y, &c_out, &c_grad_x, &c_grad_y) == FUSEDSSIM_OK);
    CHECK(value == expected && value != 0);
    CHECK(images.grad_x == other.grad_x && images.grad_y == other.grad_y);
    CHECK(images.grad_x != images.grad_y);

    float again = 0, upstream = 2;
    executor.forward(params, x, y, fs::scalar(again));
    CHECK(again == value);
    std::vector<float> twice(kElements);
    executor.backward(params, x, y, fs::scalar(upstream), std::nullopt, fs::Tensor(twice, kShape));
    executor.scale(2, fs::scalar(upstream = 1), grad_y);
    double difference = 0, size = 0;
    for (std::size_t i = 0; i < kElements; ++i) {
        difference = std::max(difference, std::abs(double(twice[i]) - images.grad_y[i]));
        size = std::max(size, std::abs(double(twice[i])));
    }
    CHECK(size > 0 && difference <= 1e-6 * size);  // float32, and two ways to the same sum

    params.data_range = 100;  // not looked at
    std::vector<float> ranges = {1.5f};
    params.data_ranges = fs::ConstTensor(ranges, {1});
    executor.forward(params, x, y, fs::scalar(again));
    CHECK(again == value);

    params.reduction = fs::Reduction::per_plane;
    std::array<float, kChannels> planes{};
    executor.forward(params, x, y, fs::Tensor(planes, {1, kChannels}));
    CHECK(std::abs((planes[0] + planes[1]) / 2 - value) < 1e-6);
    CHECK(executor.workspace_size(params, fs::Op::value_and_grad, fs::Grads::both, x, y) == 0);
}

void strides() {
    Images images;
    fs::Executor executor;
    float value = 0, last = 0;
    executor.forward({}, fs::ConstTensor(images.x, kShape), fs::ConstTensor(images.y, kShape), fs::scalar(value));
    std::vector<float> x(kElements), y(kElements);  // channels last
    for (std::size_t c = 0; c < kChannels; ++c)
        for (std::size_t p = 0; p < kHeight * kWidth; ++p) {
            x[p * kChannels + c] = images.x[c * kHeight * kWidth + p];
            y[p * kChannels + c] = images.y[c * kHeight * kWidth + p];
        }
    const fs::Extents channels_last = {kElements, 1, kWidth * kChannels, kChannels};
    executor.forward({}, fs::ConstTensor(x.data(), kShape, channels_last),
                     fs::ConstTensor(y.data(), kShape, channels_last), fs::scalar(last));
    CHECK(std::abs(last - value) < 1e-6);
}

void losses() {
    Images images;
    fs::Executor executor;
    const fs::ConstTensor x(images.x, kShape), y(images.y, kShape);
    float similarity = 0, loss = 0;
    double l1 = 0;
    for (std::size_t i = 0; i < kElements; ++i) l1 += std::abs(double(images.x[i]) - images.y[i]);
    l1 /= static_cast<double>(kElements);
    fs::Params params;
    executor.forward(params, x, y, fs::scalar(similarity));
    params.objective = fs::Objective::loss;
    params.lambda_dssim = 0.3;
    executor.forward(params, x, y, fs::scalar(loss));
    CHECK(std::abs(loss - (0.7 * l1 + 0.3 * (1 - similarity))) < 1e-6);

    // a mask of ones, and taps of the Gaussian, change nothing
    params = {};
    std::array<bool, kHeight * kWidth> mask{};
    for (bool& element : mask) element = true;
    params.mask = fs::ConstTensor(mask, {1, 1, kHeight, kWidth});
    float masked = 0;
    executor.forward(params, x, y, fs::scalar(masked));
    CHECK(std::abs(masked - similarity) < 1e-6);
    params = {};
    params.window_size = 3;
    params.taps = {0.25, 0.5, 0.25};
    float with_taps = 0, gaussian = 0;
    executor.forward(params, x, y, fs::scalar(with_taps));
    params.taps.clear();
    params.sigma = 0.8493218002880191;  // exp(-1 / (2 sigma^2)) = 1 / 2
    executor.forward(params, x, y, fs::scalar(gaussian));
    CHECK(std::abs(with_taps - gaussian) < 1e-6 && std::abs(gaussian - similarity) > 1e-3);
}

void multi_scale() {
    Images images;
    fs::Executor executor;
    const fs::ConstTensor x(images.x, kShape), y(images.y, kShape);
    fs::MsParams one;
    one.weights = {1};
    fs::Params params;
    params.padding = fs::Padding::valid;
    float value = 0, single = 0, ms = 0;
    std::vector<float> grad(kElements);
    executor.forward(params, x, x, fs::scalar(single));
    executor.ms_forward(params, one, x, x, fs::scalar(ms));
    CHECK(single == 1 && ms == 1);  // a single level of weight 1 is SSIM
    executor.ms_value_and_grad(params, one, x, y, fs::scalar(value), fs::Tensor(grad, kShape));
    executor.ms_forward(params, one, x, y, fs::scalar(ms));
    CHECK(ms == value && value < 1);
    CHECK(executor.ms_workspace_size(params, one, fs::Grads::x, x, y) == 0);
    CHECK_THROWS(invalid_argument, "x.shape[2]", executor.ms_forward(params, {}, x, y, fs::scalar(ms)));
}

void errors() {
    Images images;
    fs::Executor executor;
    const fs::ConstTensor x(images.x, kShape), y(images.y, kShape);
    float value = 0;
    fs::Params params;
    params.window_size = 8;
    CHECK_THROWS(invalid_argument, "window_size", executor.forward(params, x, y, fs::scalar(value)));
    params.window_size = 7;
    params.taps = {1};
    CHECK_THROWS(invalid_argument, "expected window_size = 7", executor.forward(params, x, y, fs::scalar(value)));
    fs::MsParams ms;
    ms.weights.assign(9, 0.1);
    CHECK_THROWS(invalid_argument, "at most 8", executor.ms_forward({}, ms, x, y, fs::scalar(value)));
    double wide = 0;
    CHECK_THROWS(invalid_dtype, "out", executor.forward({}, x, y, fs::scalar(wide)));
    CHECK_THROWS(invalid_argument, "1196 elements, expected 1197", fs::Tensor(images.x, {1, 1, 19, 63}));
    CHECK_THROWS(invalid_argument, "5 axes", fs::Tensor(images.x, {1, 1, 1, 1, 1, 1}));
    CHECK_THROWS(invalid_argument, "strides", fs::Tensor(images.x.data(), kShape, {1}));
    CHECK_THROWS(invalid_argument, "grad", executor.value_and_grad({}, x, y, fs::scalar(value), std::nullopt));
    CHECK(fs::version() == fusedssim_version());
    CHECK(fs::info().cpu_threads >= 1);
}

void workspace() {
    std::size_t given = 0, taken = 0;
    {
        const auto allocate = [&](std::size_t bytes) { return ++given, std::malloc(bytes); };
        const auto free = [&](void* data) { ++taken, std::free(data); };
        fs::Workspace first(allocate, free);
        CHECK(first.size() == 0 && given == 0);
        void* const small = first.reserve(64);
        CHECK(first.reserve(32) == small && first.size() == 64);
        first.reserve(128);
        CHECK(given == 2 && taken == 1);
        fs::Workspace second(std::move(first));
        CHECK(second.size() == 128 && given == 2 && taken == 1);
        fs::Workspace third;
        third = std::move(second);
        CHECK(third.size() == 128 && taken == 1);
    }
    CHECK(given == 2 && taken == 2);
    fs::Workspace none([](std::size_t) { return nullptr; }, [](void*) {});
    CHECK_THROWS(out_of_memory, "64 bytes", none.reserve(64));

    // A call on CUDA asks for what it needs before anything else, so that this can be seen without a device.
    if (fs::info().cuda_built) {
        Images images;
        std::size_t asked = 0;
        auto executor = fs::Executor::cuda(
            0, nullptr, [&](std::size_t bytes) -> void* { return asked = bytes, nullptr; }, [](void*) {});
        const fs::ConstTensor x(images.x, kShape);
        float value = 0;
        CHECK_THROWS(out_of_memory, "workspace", executor.forward({}, x, x, fs::scalar(value)));
        CHECK(asked > 0 && asked == executor.workspace_size({}, fs::Op::forward, fs::Grads::none, x, x));
    }
}

}  // namespace

int main(int argc, char** argv) {
    const struct {
        const char* name;
        void (*run)();
    } groups[] = {{"calls", calls},   {"strides", strides},         {"losses", losses},
                  {"errors", errors}, {"multi_scale", multi_scale}, {"workspace", workspace}};
    bool found = false;
    for (const auto& group : groups) {
        if (argc < 2 || !std::strcmp(argv[1], group.name)) {
            try {
                group.run();
            } catch (const std::exception& error) {
                std::fprintf(stderr, "%s: %s\n", group.name, error.what());
                ++failures;
            }
            found = true;
        }
    }
    if (!found) std::fprintf(stderr, "wrapper_test: no group %s\n", argv[1]);
    return failures != 0 || !found;
}
