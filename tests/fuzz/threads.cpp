// SPDX-License-Identifier: MIT
//
// Many threads call all functions at once, each with problems of its own and with inputs that all share: for the thread
// sanitizer. Results must be the bits that a single thread gets, and error texts those of the thread that made the
// error.
//
//     abi_threads [--seconds S] [--threads N]
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "fusedssim/fusedssim.h"
#include "input.h"

namespace {

#define REQUIRE(condition)                                                                                            \
    do {                                                                                                              \
        if (!(condition)) {                                                                                           \
            std::fprintf(stderr, "%s:%d: not so: %s\n    the last error is \"%s\"\n", __FILE__, __LINE__, #condition, \
                         fusedssim_last_error());                                                                     \
            std::abort();                                                                                             \
        }                                                                                                             \
    } while (0)

struct Shape {
    int ndim;
    std::int64_t sizes[5];
};
// The last two are large enough for several threads in a call.
constexpr Shape kShapes[] = {
    {4, {1, 1, 1, 1}}, {4, {2, 3, 13, 17}}, {5, {1, 2, 5, 7, 9}}, {4, {1, 3, 160, 130}}, {5, {1, 1, 36, 40, 44}}};
constexpr int kShapeCount = int(sizeof kShapes / sizeof *kShapes);
constexpr int kDtypes = 2;  // float32 and float64

std::int64_t elements(const Shape& s) {
    std::int64_t count = 1;
    for (int i = 0; i < s.ndim; ++i) count *= s.sizes[i];
    return count;
}

// What all threads read.
struct Images {
    std::vector<double> x, y, mask;  // double is aligned for either type

    explicit Images(std::int64_t count, bool is_double) : x(std::size_t(count)), y(x), mask(x) {
        fuzz::Random random{std::uint64_t(count)};
        for (std::int64_t i = 0; i < count; ++i)
            for (std::vector<double>* const to : {&x, &y, &mask}) {
                const double value = to == &mask ? random.below(2) : random.uniform();
                if (is_double)
                    (*to)[std::size_t(i)] = value;
                else
                    reinterpret_cast<float*>(to->data())[i] = float(value);
            }
    }
};

std::vector<Images> images;

// One of the calls, number 0 to kCalls - 1, into memory of the caller. Returns all that it wrote.
constexpr int kFunctions = 10;
constexpr int kCalls = kFunctions * kShapeCount * kDtypes;

std::vector<double> call(int number) {
    const int function = number % kFunctions, which = number / kFunctions % kShapeCount;
    const bool is_double = number / kFunctions / kShapeCount;
    const Shape& shape = kShapes[which];
    const std::int64_t count = elements(shape);
    Images& data = images[std::size_t(which * kDtypes + is_double)];
    const fusedssim_dtype dtype = is_double ? FUSEDSSIM_FLOAT64 : FUSEDSSIM_FLOAT32;
    const auto tensor = [&](void* memory) { return fusedssim_contiguous(memory, dtype, shape.ndim, shape.sizes); };
    std::vector<double> written(std::size_t(2 * count + 2));
    const fusedssim_tensor x = tensor(data.x.data()), y = tensor(data.y.data()), mask = tensor(data.mask.data()),
                           grad_x = tensor(written.data() + 1), grad_y = tensor(written.data() + 1 + count),
                           out = fusedssim_contiguous(written.data(), dtype, 0, nullptr);
    fusedssim_params params = FUSEDSSIM_PARAMS_DEFAULT;
    fusedssim_exec exec = FUSEDSSIM_EXEC_DEFAULT;
    fusedssim_ms_params ms = FUSEDSSIM_MS_PARAMS_DEFAULT;
    exec.cpu_threads = 1 + number % 3;
    ms.levels = 2;
    double factor = 1.5;
    float factor32 = 1.5f;
    void* const factor_data = is_double ? static_cast<void*>(&factor) : &factor32;
    const fusedssim_tensor upstream = fusedssim_contiguous(factor_data, dtype, 0, nullptr);
    fusedssim_status status = FUSEDSSIM_OK;
    size_t bytes = 0;
    switch (function) {
        case 0: status = fusedssim_forward(&params, &exec, &x, &y, &out, nullptr, 0); break;
        case 1: status = fusedssim_value_and_grad(&params, &exec, &x, &y, &out, &grad_x, &grad_y); break;
        case 2: status = fusedssim_backward(&params, &exec, &x, &y, nullptr, 0, &upstream, &grad_x, nullptr); break;
        case 3:
            params.mask = &mask;
            params.mask_mode = FUSEDSSIM_MASK_NORMALIZED;
            params.objective = FUSEDSSIM_OBJECTIVE_LOSS;
            status = fusedssim_value_and_grad(&params, &exec, &x, &y, &out, &grad_x, nullptr);
            break;
        case 4: status = fusedssim_ms_forward(&params, &ms, &exec, &x, &y, &out); break;
        case 5: status = fusedssim_ms_value_and_grad(&params, &ms, &exec, &x, &y, &out, &grad_x, &grad_y); break;
        case 6:
            std::memcpy(written.data() + 1, data.x.data(), std::size_t(count) * (is_double ? 8 : 4));
            status = fusedssim_scale(&exec, 2, &upstream, &grad_x);
            break;
        case 7: {
            fusedssim_info info{};
            info.struct_size = sizeof info;
            status = fusedssim_get_info(&info);
            written[0] = info.cpu_threads + double(std::strlen(info.cpu_isa)) + double(std::strlen(info.cuda_problem));
            break;
        }
        case 8: {
            status = fusedssim_workspace_size(&params, &exec, FUSEDSSIM_OP_BACKWARD, FUSEDSSIM_GRAD_X, &x, &y, &bytes);
            REQUIRE(status == FUSEDSSIM_OK);
            status = fusedssim_saved_size(&params, &exec, FUSEDSSIM_GRAD_X, &x, &y, &bytes);
            REQUIRE(status == FUSEDSSIM_OK);
            status = fusedssim_ms_workspace_size(&params, &ms, &exec, FUSEDSSIM_GRAD_X, &x, &y, &bytes);
            written[0] = double(bytes);
            break;
        }
        default: {  // an error whose text is this thread's
            params.window_size = 2 * (number + 20);
            REQUIRE(fusedssim_forward(&params, &exec, &x, &y, &out, nullptr, 0) == FUSEDSSIM_INVALID_ARGUMENT);
            const std::string text = "params.window_size = " + std::to_string(params.window_size) + ",";
            REQUIRE(std::strncmp(fusedssim_last_error(), text.c_str(), text.size()) == 0);
            REQUIRE(std::strcmp(fusedssim_status_string(FUSEDSSIM_INVALID_ARGUMENT), "invalid argument") == 0);
            break;
        }
    }
    REQUIRE(status == FUSEDSSIM_OK);
    return written;
}

}  // namespace

int main(int argc, char** argv) {
    double seconds = 5;
    int threads = 12;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (!std::strcmp(argv[i], "--seconds")) seconds = std::atof(argv[i + 1]);
        if (!std::strcmp(argv[i], "--threads")) threads = std::atoi(argv[i + 1]);
    }
    for (const Shape& shape : kShapes)
        for (int is_double = 0; is_double < kDtypes; ++is_double) images.emplace_back(elements(shape), is_double);

    // The first calls of the process come from all threads at once, too: what is set up once is set up then.
    std::atomic<long long> calls{0};
    std::vector<std::vector<double>> expected;
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    const auto in_all = [&](auto&& work) {
        std::vector<std::thread> all;
        for (int i = 0; i < threads; ++i) all.emplace_back([&, i] { work(i); });
        for (std::thread& thread : all) thread.join();
    };
    in_all([&](int thread) {
        for (int i = 0; i < kCalls; i += 7) call((i + thread * 7) % kCalls);
    });
    for (int i = 0; i < kCalls; ++i) expected.push_back(call(i));
    in_all([&](int thread) {
        fuzz::Random random{std::uint64_t(thread) + 1};
        while (std::chrono::steady_clock::now() < end) {
            const int number = random.below(kCalls);
            const std::vector<double> got = call(number);
            REQUIRE(!std::memcmp(got.data(), expected[std::size_t(number)].data(), got.size() * sizeof(double)));
            ++calls;
        }
    });
    std::printf("%lld calls from %d threads, nothing wrong\n", calls.load(), threads);
    return 0;
}
