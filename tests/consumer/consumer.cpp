// SPDX-License-Identifier: MIT
//
// C++17: SSIM of two volumes and its gradient, compared with finite differences.
#include <fusedssim/fusedssim.hpp>

#include <cmath>
#include <cstdio>
#include <stdexcept>
#include <vector>

namespace {

const fusedssim::Extents kShape{1, 2, 6, 7, 9};
constexpr std::size_t kElements = 1 * 2 * 6 * 7 * 9;

struct Result {
    double value;
    std::vector<double> grad_x;
};

Result ssim(const std::vector<double>& x, const std::vector<double>& y) {
    fusedssim::Params params;
    params.window_size = 5;
    Result result{0, std::vector<double>(kElements)};
    fusedssim::Executor executor;
    executor.value_and_grad(params, {x, kShape}, {y, kShape}, fusedssim::scalar(result.value),
                            fusedssim::Tensor(result.grad_x, kShape));
    return result;
}

void expect(bool condition, const char* fact) {
    if (!condition) throw std::runtime_error(fact);
}

}  // namespace

int main() {
    try {
        std::vector<double> x(kElements);
        std::vector<double> y(kElements);
        for (std::size_t i = 0; i < kElements; ++i) {
            x[i] = static_cast<double>(i * 37 % 101) / 100;
            y[i] = static_cast<double>(i * 53 % 89) / 88;
        }
        expect(ssim(x, x).value == 1.0, "identical volumes have SSIM 1");

        const Result here = ssim(x, y);
        expect(here.value > -1 && here.value < 1, "SSIM lies between -1 and 1");
        constexpr double kStep = 1e-5;
        for (std::size_t i = 0; i < kElements; i += 29) {
            const double middle = x[i];
            x[i] = middle + kStep;
            const double above = ssim(x, y).value;
            x[i] = middle - kStep;
            const double below = ssim(x, y).value;
            x[i] = middle;
            expect(std::abs((above - below) / (2 * kStep) - here.grad_x[i]) < 1e-8,
                   "the gradient agrees with finite differences");
        }
        std::printf("C++: all facts hold, libfusedssim %s\n", fusedssim::version().c_str());
    } catch (const std::exception& error) {
        std::fprintf(stderr, "not so: %s\n", error.what());
        return 1;
    }
    return 0;
}
