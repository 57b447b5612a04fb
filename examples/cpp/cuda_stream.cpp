// SPDX-License-Identifier: MIT
//
// C++ with a CUDA stream: copies, SSIM and its gradient are enqueued on one stream, and the program waits once. The
// library's workspace comes from the stream's memory pool. At the end, the result is compared with that of the CPU.
#include <cmath>
#include <cstdio>
#include <stdexcept>
#include <vector>

#include <cuda_runtime_api.h>
#include <fusedssim/fusedssim.hpp>

namespace {

constexpr int kNoDevice = 77;  // for CTest: skipped

void check(cudaError_t status) {
    if (status != cudaSuccess) throw std::runtime_error(cudaGetErrorString(status));
}

// Memory of the device, in the order of a stream.
class Buffer {
public:
    Buffer(std::size_t elements, cudaStream_t stream) : elements_(elements), stream_(stream) {
        void* data = nullptr;
        check(cudaMallocAsync(&data, elements * sizeof(float), stream));
        data_ = static_cast<float*>(data);
    }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { cudaFreeAsync(data_, stream_); }

    float* data() const { return data_; }
    void upload(const std::vector<float>& from) {
        check(cudaMemcpyAsync(data_, from.data(), elements_ * sizeof(float), cudaMemcpyHostToDevice, stream_));
    }
    void download(float* to) const {
        check(cudaMemcpyAsync(to, data_, elements_ * sizeof(float), cudaMemcpyDeviceToHost, stream_));
    }

private:
    std::size_t elements_;
    cudaStream_t stream_;
    float* data_ = nullptr;
};

int run() {
    const fusedssim::Extents shape = {2, 3, 270, 481};
    const std::size_t elements = 2 * 3 * 270 * 481;
    std::vector<float> x(elements), y(elements), grad(elements), expected_grad(elements);
    for (std::size_t i = 0; i < elements; ++i) {
        x[i] = float(i * 37 % 1009) / 1008;
        y[i] = 0.5f * x[i] + 0.5f * float(i * 53 % 997) / 996;
    }
    float value = 0, expected = 0;
    const fusedssim::Params params;

    cudaStream_t stream = nullptr;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    {
        const auto allocate = [stream](std::size_t bytes) {
            void* data = nullptr;
            check(cudaMallocAsync(&data, bytes, stream));
            return data;
        };
        const auto free = [stream](void* data) { cudaFreeAsync(data, stream); };
        fusedssim::Executor executor = fusedssim::Executor::cuda(0, stream, allocate, free);
        Buffer device_x(elements, stream), device_y(elements, stream), device_grad(elements, stream), out(1, stream);
        device_x.upload(x);
        device_y.upload(y);
        executor.value_and_grad(params, {device_x.data(), shape}, {device_y.data(), shape},
                                fusedssim::Tensor(out.data(), fusedssim::Extents{}),
                                fusedssim::Tensor(device_grad.data(), shape));
        out.download(&value);
        device_grad.download(grad.data());
        check(cudaStreamSynchronize(stream));
    }
    check(cudaStreamDestroy(stream));

    fusedssim::Executor().value_and_grad(params, {x, shape}, {y, shape}, fusedssim::scalar(expected),
                                         fusedssim::Tensor(expected_grad, shape));
    double largest = 0, difference = 0;
    for (std::size_t i = 0; i < elements; ++i) {
        largest = std::fmax(largest, std::fabs(expected_grad[i]));
        difference = std::fmax(difference, std::fabs(double(grad[i]) - expected_grad[i]));
    }
    std::printf("SSIM on the GPU %.7f, on the CPU %.7f; gradients differ by %.1e of the largest\n", double(value),
                double(expected), difference / largest);
    // Both are float32 sums of the same terms in another order.
    return std::fabs(value - expected) < 1e-5 && difference < 1e-4 * largest ? 0 : 1;
}

}  // namespace

int main() {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
        std::puts("no CUDA device");
        return kNoDevice;
    }
    try {
        return run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
