// SPDX-License-Identifier: MIT
//
// src/cuda/naive.cu, which is written to be read, against the kernels of the library. The naive kernels run on a
// simulator in this program, the others on that of the simulated device: the library loads it as the driver.
#include "cuda_language.h"
// After the language that it is written in.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "fusedssim/fusedssim.h"
#include "naive.cu"

namespace {

using Numbers = std::vector<float>;
using fusedssim::naive_gradient, fusedssim::naive_statistics, fusedssim::NaiveParams;

constexpr simulator::Kernel kNaiveKernels[] = {SIMULATOR_KERNEL(naive_statistics, , , NaiveParams, , , )
                                                   SIMULATOR_KERNEL(naive_gradient, , , NaiveParams, , , )};

void require(fusedssim_status status) {
    if (status == FUSEDSSIM_OK) return;
    std::fprintf(stderr, "%s\n", fusedssim_last_error());
    std::exit(1);
}

double distance(const Numbers& a, const Numbers& b) {
    double difference = 0, size = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        difference += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
        size += double(b[i]) * b[i];
    }
    return std::sqrt(difference / size);
}

constexpr int kWindow = 11, kRadius = kWindow / 2;
constexpr double kSigma = 1.5;

// Compares map and gradients for one image or volume: [D, H, W], D = 0 for an image.
bool agree(int depth, int height, int width, fusedssim_padding padding) {
    const bool is_3d = depth != 0;
    const std::size_t count = std::size_t(is_3d ? depth : 1) * std::size_t(height) * std::size_t(width);
    Numbers x(count), y(count), map(count), partials(4 * count), grad_x(count), grad_y(count);
    std::mt19937 bits{11};
    std::uniform_real_distribution<float> uniform(0, 1);
    for (std::size_t i = 0; i < count; ++i) {
        x[i] = uniform(bits);
        y[i] = 0.7f * x[i] + 0.3f * uniform(bits);
    }

    const int crop = padding == FUSEDSSIM_PADDING_VALID ? kRadius : 0;
    NaiveParams p{};
    p.x = x.data();
    p.y = y.data();
    p.map = map.data();
    p.partials = partials.data();
    p.grad_x = grad_x.data();
    p.grad_y = grad_y.data();
    p.c1x2 = 2 * 0.01f * 0.01f;
    p.c2x2 = 2 * 0.03f * 0.03f;
    double taps[kRadius + 1], sum = 0;
    for (int i = -kRadius; i <= kRadius; ++i) sum += std::exp(-i * i / (2 * kSigma * kSigma));
    for (int i = 0; i <= kRadius; ++i) taps[i] = std::exp(-i * i / (2 * kSigma * kSigma)) / sum;
    const int sizes[] = {is_3d ? depth : 1, height, width};
    for (int axis = 0; axis < 3; ++axis) {
        const bool has_window = is_3d || axis > 0;
        p.size[axis] = sizes[axis];
        p.radius[axis] = has_window ? kRadius : 0;
        p.crop[axis] = has_window ? crop : 0;
        for (int i = 0; i <= p.radius[axis]; ++i) p.taps[axis][i] = has_window ? float(taps[i]) : 1.0f;
    }
    constexpr unsigned kThreads = 64;
    for (const simulator::Kernel& kernel : kNaiveKernels)
        simulator::run_grid(kernel, &p, {unsigned(count + kThreads - 1) / kThreads, 1, 1}, kThreads);

    // The library's sum has the gradients that the naive kernels compute; its map is that of another call.
    fusedssim_params params = FUSEDSSIM_PARAMS_DEFAULT;
    params.window_size = kWindow;
    params.sigma = kSigma;
    params.padding = padding;
    const int ndim = is_3d ? 5 : 4;
    std::vector<std::int64_t> shape = {1, 1, height, width}, map_shape = shape;
    if (is_3d) map_shape.insert(map_shape.begin() + 2, depth), shape.insert(shape.begin() + 2, depth);
    std::size_t map_count = 1;
    for (std::size_t i = 2; i < map_shape.size(); ++i) map_count *= std::size_t(map_shape[i] -= 2 * crop);
    const auto tensor = [&](Numbers& numbers, const std::vector<std::int64_t>& of) {
        return fusedssim_contiguous(numbers.data(), FUSEDSSIM_FLOAT32, ndim, of.data());
    };
    Numbers real_map(map_count), real_x(count), real_y(count), value(1);
    const fusedssim_tensor x_in = tensor(x, shape), y_in = tensor(y, shape), map_out = tensor(real_map, map_shape),
                           x_out = tensor(real_x, shape), y_out = tensor(real_y, shape),
                           value_out = fusedssim_contiguous(value.data(), FUSEDSSIM_FLOAT32, 0, nullptr);
    fusedssim_exec exec = FUSEDSSIM_EXEC_DEFAULT;
    exec.device = FUSEDSSIM_CUDA;
    std::vector<double> workspace;
    const auto with_workspace = [&](fusedssim_op op, fusedssim_grads grads) {
        std::size_t bytes = 0;
        require(fusedssim_workspace_size(&params, &exec, op, grads, &x_in, &y_in, &bytes));
        workspace.assign(2 * (bytes / 16 + 1), 0);
        exec.workspace = workspace.data();
        exec.workspace_bytes = bytes;
    };
    params.reduction = FUSEDSSIM_REDUCTION_SUM;
    with_workspace(FUSEDSSIM_OP_VALUE_AND_GRAD, FUSEDSSIM_GRAD_X | FUSEDSSIM_GRAD_Y);
    require(fusedssim_value_and_grad(&params, &exec, &x_in, &y_in, &value_out, &x_out, &y_out));
    params.reduction = FUSEDSSIM_REDUCTION_NONE;
    with_workspace(FUSEDSSIM_OP_FORWARD, FUSEDSSIM_GRAD_NONE);
    require(fusedssim_forward(&params, &exec, &x_in, &y_in, &map_out, nullptr, 0));

    Numbers cropped;
    for (std::size_t i = 0; i < count; ++i) {
        const int column = int(i) % width, row = int(i) / width % height, slice = int(i) / width / height;
        if (column >= crop && column < width - crop && row >= crop && row < height - crop &&
            (!is_3d || (slice >= crop && slice < depth - crop)))
            cropped.push_back(map[i]);
    }
    const double differences[] = {distance(cropped, real_map), distance(grad_x, real_x), distance(grad_y, real_y)};
    // Sums of up to 1331 products in float32, in another order.
    for (const double difference : differences)
        if (!(difference < 2e-5)) {
            std::fprintf(stderr, "%d x %d x %d, padding %d: map, grad_x, grad_y differ by %g, %g, %g\n", depth, height,
                         width, int(padding), differences[0], differences[1], differences[2]);
            return false;
        }
    return true;
}

}  // namespace

int main() {
    bool all = true;
    for (const fusedssim_padding padding : {FUSEDSSIM_PADDING_SAME, FUSEDSSIM_PADDING_VALID}) {
        all = agree(0, 23, 70, padding) && all;
        all = agree(13, 18, 21, padding) && all;
    }
    return !all;
}
