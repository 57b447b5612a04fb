// C++17: SSIM of two volumes and its gradient, compared with finite differences.
#include <fusedssim/fusedssim.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <vector>

namespace {

constexpr std::array<std::int64_t, 5> kShape{1, 2, 6, 7, 9};
constexpr std::size_t kElements = 1 * 2 * 6 * 7 * 9;

fusedssim_tensor tensor(std::vector<double>& data) {
    return fusedssim_contiguous(data.data(), FUSEDSSIM_FLOAT64, static_cast<std::int32_t>(kShape.size()),
                                kShape.data());
}

struct Result {
    double value;
    std::vector<double> grad_x;
};

Result ssim(std::vector<double>& x_data, std::vector<double>& y_data) {
    fusedssim_params params = FUSEDSSIM_PARAMS_DEFAULT;
    params.window_size = 5;
    const fusedssim_exec exec = FUSEDSSIM_EXEC_DEFAULT;
    Result result{0, std::vector<double>(kElements)};
    const fusedssim_tensor x = tensor(x_data);
    const fusedssim_tensor y = tensor(y_data);
    const fusedssim_tensor grad_x = tensor(result.grad_x);
    const fusedssim_tensor out = fusedssim_contiguous(&result.value, FUSEDSSIM_FLOAT64, 0, nullptr);
    if (fusedssim_value_and_grad(&params, &exec, &x, &y, &out, &grad_x, nullptr) != FUSEDSSIM_OK) {
        throw std::runtime_error(fusedssim_last_error());
    }
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
        std::printf("C++: all facts hold, libfusedssim %s\n", fusedssim_version());
    } catch (const std::exception& error) {
        std::fprintf(stderr, "not so: %s\n", error.what());
        return 1;
    }
    return 0;
}
