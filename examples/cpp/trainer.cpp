// SPDX-License-Identifier: MIT
//
// A small trainer in C++, without Python: it moves, stretches and colours blobs of light until their picture matches a
// target. One call computes the loss of a step, (1 - lambda) |x - y| + lambda (1 - SSIM), and its gradient with respect
// to the picture; the rest of the chain rule, and Adam, are written out below.
#include <array>
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include <fusedssim/fusedssim.hpp>

namespace {

constexpr int kHeight = 48, kWidth = 64, kChannels = 3, kBlobs = 12, kSteps = 400;
const fusedssim::Extents kShape = {1, kChannels, kHeight, kWidth};

// One blob: its middle, the logarithm of its radius, and its colour.
struct Blob {
    float x, y, log_radius;
    std::array<float, kChannels> colour;
};
constexpr int kNumbers = sizeof(Blob) / sizeof(float);
static_assert(kNumbers == 3 + kChannels, "a blob is a row of floats");

using Picture = std::vector<float>;  // [C, H, W]

std::size_t at(int channel, int row, int column) {
    return (std::size_t(channel) * kHeight + std::size_t(row)) * kWidth + std::size_t(column);
}

float brightness(const Blob& blob, int row, int column) {
    const float dx = float(column) - blob.x, dy = float(row) - blob.y;
    return std::exp(-(dx * dx + dy * dy) / 2 * std::exp(-2 * blob.log_radius));
}

void render(const std::vector<Blob>& blobs, Picture& picture) {
    picture.assign(kChannels * kHeight * kWidth, 0.0f);
    for (const Blob& blob : blobs)
        for (int row = 0; row < kHeight; ++row)
            for (int column = 0; column < kWidth; ++column) {
                const float light = brightness(blob, row, column);
                for (int c = 0; c < kChannels; ++c) picture[at(c, row, column)] += light * blob.colour[std::size_t(c)];
            }
}

// The gradient by the blobs, from that by the picture.
void backward(const std::vector<Blob>& blobs, const Picture& grad_picture, std::vector<Blob>& grads) {
    grads.assign(blobs.size(), Blob{});
    for (std::size_t i = 0; i < blobs.size(); ++i) {
        const Blob& blob = blobs[i];
        const float precision = std::exp(-2 * blob.log_radius);
        for (int row = 0; row < kHeight; ++row)
            for (int column = 0; column < kWidth; ++column) {
                const float dx = float(column) - blob.x, dy = float(row) - blob.y;
                const float light = brightness(blob, row, column);
                float grad_light = 0;
                for (int c = 0; c < kChannels; ++c) {
                    const float grad = grad_picture[at(c, row, column)];
                    grads[i].colour[std::size_t(c)] += grad * light;
                    grad_light += grad * blob.colour[std::size_t(c)];
                }
                grads[i].x += grad_light * light * dx * precision;
                grads[i].y += grad_light * light * dy * precision;
                grads[i].log_radius += grad_light * light * (dx * dx + dy * dy) * precision;
            }
    }
}

// D. P. Kingma and J. Ba, "Adam: a method for stochastic optimization" (2015).
class Adam {
public:
    void step(std::vector<Blob>& blobs, const std::vector<Blob>& grads) {
        constexpr float kRate[kNumbers] = {0.3f, 0.3f, 0.03f, 0.03f, 0.03f, 0.03f};
        ++steps_;
        const float correct1 = 1 - std::pow(0.9f, float(steps_)), correct2 = 1 - std::pow(0.999f, float(steps_));
        auto* numbers = reinterpret_cast<float*>(blobs.data());
        const auto* g = reinterpret_cast<const float*>(grads.data());
        for (std::size_t i = 0; i < kBlobs * kNumbers; ++i) {
            first_[i] += 0.1f * (g[i] - first_[i]);
            second_[i] += 0.001f * (g[i] * g[i] - second_[i]);
            numbers[i] -= kRate[i % kNumbers] * (first_[i] / correct1) / (std::sqrt(second_[i] / correct2) + 1e-8f);
        }
    }

private:
    int steps_ = 0;
    std::array<float, kBlobs * kNumbers> first_{}, second_{};
};

std::vector<Blob> random_blobs(unsigned seed) {
    std::mt19937 generator(seed);
    std::uniform_real_distribution<float> uniform(0, 1);
    std::vector<Blob> blobs(kBlobs);
    for (Blob& blob : blobs) {
        blob.x = kWidth * uniform(generator);
        blob.y = kHeight * uniform(generator);
        blob.log_radius = std::log(3 + 6 * uniform(generator));
        for (float& colour : blob.colour) colour = 0.6f * uniform(generator);
    }
    return blobs;
}

}  // namespace

int main() {
    try {
        Picture target, picture, grad_picture(kChannels * kHeight * kWidth);
        render(random_blobs(1), target);
        std::vector<Blob> blobs = random_blobs(2), grads;
        Adam adam;

        fusedssim::Executor executor;
        fusedssim::Params params;
        params.objective = fusedssim::Objective::loss;
        params.lambda_dssim = 0.2;
        float loss = 0, first = 0;
        for (int step = 0; step <= kSteps; ++step) {
            render(blobs, picture);
            executor.value_and_grad(params, {picture, kShape}, {target, kShape}, fusedssim::scalar(loss),
                                    fusedssim::Tensor(grad_picture, kShape));
            if (step == 0) first = loss;
            if (step % 100 == 0) std::printf("step %3d  loss %.4f\n", step, double(loss));
            backward(blobs, grad_picture, grads);
            adam.step(blobs, grads);
        }
        return loss < first / 4 ? 0 : 1;
    } catch (const fusedssim::Error& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
