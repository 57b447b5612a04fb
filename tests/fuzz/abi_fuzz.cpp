// SPDX-License-Identifier: MIT
//
// The whole C interface under a fuzzer: an input is decoded to a call of one function that is right, and then spoiled
// in as many fields as the input says. Most inputs spoil nothing, so most calls run kernels. What is checked:
//
// - A call that is right succeeds; one with a parameter that the header forbids fails, with a text.
// - A call that fails has written nothing, also one that runs out of memory; one that succeeds nothing but the
//   elements of its outputs.
// - Nothing is read beyond an argument: memory, structures and taps are exactly as large as they say (address
//   sanitizer).
// - The same call gives the same bits, with another number of threads and, on the CPU, with contiguous inputs too.
// - Values: at most 1, exactly 1 for identical images with gradients of exactly 0, losses at least 0, NaN if an image
//   has one.
//
// The same file is the body of a libFuzzer program and of random_driver.cpp.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "failing_memory.h"
#include "input.h"
#include "memory.h"
#include "outcome.h"

namespace fuzz {

Outcome last_outcome;

namespace {

[[noreturn]] void report(const char* file, int line, const char* what) {
    std::fprintf(stderr, "%s:%d: not so: %s\n    the last error is \"%s\"\n", file, line, what, fusedssim_last_error());
    std::abort();
}
#define REQUIRE(condition) ((condition) ? void() : report(__FILE__, __LINE__, #condition))

// A simulated device has the memory of the host, so kernels can be run on it; a true one must not see these pointers.
enum class Cuda { none, simulated, real };
Cuda cuda() {
    static const Cuda found = [] {
        fusedssim_info info{};
        info.struct_size = sizeof info;
        REQUIRE(fusedssim_get_info(&info) == FUSEDSSIM_OK);
        if (!info.cuda_device_count) return Cuda::none;
        fusedssim_cuda_device_info device{};
        device.struct_size = sizeof device;
        REQUIRE(fusedssim_get_cuda_device_info(0, &device) == FUSEDSSIM_OK);
        return std::strcmp(device.name, "simulated") ? Cuda::real : Cuda::simulated;
    }();
    return found;
}

enum ArrayName { kX, kY, kMask, kGradOut, kOut, kGradX, kGradY, kArrays };
constexpr ArrayName kFirstOutput = kOut;

enum class Pointer { normal, null, misaligned, alias };

struct Array {
    bool is_given = false;  // otherwise the function gets NULL
    fusedssim_tensor t = {sizeof(fusedssim_tensor), 0, nullptr, 0, 0, {0}, {0}};
    std::size_t lead = 0;  // elements before the first one, so that data is not aligned to more than an element
    Pointer pointer = Pointer::normal;
    ArrayName alias = kX;
    Block block;
    Structure structure;
};

enum class Values { uniform, identical, near, flat, flat_identical, negative, bytes, tiny, nan, infinite, huge, bits };

// Which finite images have a size that data_range fits, so that the rules of values hold.
bool is_tame(Values v) { return v <= Values::bytes; }

class Case {
public:
    Case(const std::uint8_t* data, std::size_t size) : in_(data, size), random_(0) {
        decode();
        spoil();
    }

    void run() {
        if (function_ == Function::infos) return run_infos();
        allocate();
        allocate_workspace();
        const std::vector<std::vector<unsigned char>> before = memory();
        const fusedssim_status status = call();
        last_outcome = {int(function_), status, spoiled_, is_3d_, int(arrays_[kX].t.dtype)};
        check_status(status);
        check_memory(before, status);
        if (status != FUSEDSSIM_OK || is_query()) return;
        if (!spoiled_) check_values();
        if (in_.chance(48)) check_out_of_memory(before);
        check_again(before);
        // On CUDA aligned rows have kernels of their own, whose last bits differ.
        if (!spoiled_ && exec_.device == FUSEDSSIM_CPU) check_contiguous(before);
    }

private:
    // ---- The call, as the input says, and right -------------------------------------------------------------------

    void decode() {
        // Sizes and texts are asked for less often: they run no kernel.
        const int choice = in_.below(64);
        function_ = choice < 54 ? Function(choice / 9) : Function(6 + (choice - 54) % 4);
        random_ = Random(in_.byte());
        is_3d_ = in_.chance(96);
        const bool is_large = in_.chance(6);
        dtype_ = y_dtype_ = in_.below(4);
        decode_params(is_large);
        decode_windows();
        decode_shape(is_large);
        if (is_ms()) decode_levels();
        decode_exec();
        values_ = Values(in_.chance(160) ? in_.below(int(Values::bits) + 1) : 0);
        // MS-SSIM of bytes has a data range of bytes, and so on: the rules of values want both to fit.
        if (values_ == Values::bytes) params_.data_range = 255;
        decode_integers();
        decode_arrays();
    }

    // Images of integers, either or both.
    void decode_integers() {
        if (in_.chance(24)) params_.arithmetic = FUSEDSSIM_FLOAT64;
        if (function_ == Function::scale || !in_.chance(80)) return;
        static constexpr fusedssim_dtype kIntegers[] = {FUSEDSSIM_UINT8, FUSEDSSIM_UINT16, FUSEDSSIM_INT16};
        const int which = in_.below(3);
        if (which != 1) y_dtype_ = in_.one_of(kIntegers);
        if (which != 0) dtype_ = in_.one_of(kIntegers);
        if (values_ == Values::identical || values_ == Values::near || values_ == Values::flat_identical)
            y_dtype_ = dtype_ = is_integer(dtype_) ? dtype_ : y_dtype_;
        // Devices but the CPU have no gradient by integers.
        if (writes_grads() && is_integer(dtype_) && is_integer(y_dtype_)) dtype_ = y_dtype_ = FUSEDSSIM_FLOAT32;
        const std::uint32_t possible = (is_integer(dtype_) ? 0u : 1u) | (is_integer(y_dtype_) ? 0u : 2u);
        if (writes_grads()) grads_ = grads_ & possible ? grads_ & possible : possible;
        const bool is_scaled = in_.chance(128);
        if (is_integer(dtype_) && is_scaled) params_.x_scale = 1 / largest_integer(dtype_);
        if (is_integer(y_dtype_) && is_scaled) params_.y_scale = 1 / largest_integer(y_dtype_);
        for (const fusedssim_dtype dtype : {dtype_, y_dtype_})
            if (is_integer(dtype) && !is_scaled)
                params_.data_range = std::max(params_.data_range, largest_integer(dtype));
    }
    bool writes_grads() const {
        return function_ == Function::value_and_grad || function_ == Function::backward ||
               function_ == Function::ms_value_and_grad;
    }

    void decode_params(bool is_large) {
        static constexpr int kWindows[] = {11, 11, 11, 1, 3, 5, 7, 9, 15, 33};
        static constexpr double kSigmas[] = {1.5, 1.5, 0.3, 1e-3, 5, 100};
        static constexpr double kConstants[] = {0.01, 0.03, 0.03, 0.4, 0};
        params_.window_size = is_large ? kWindows[in_.byte() % 7] : in_.one_of(kWindows);
        params_.padding = in_.below(5);
        params_.reduction = is_ms() ? in_.below(4) : in_.below(5);
        params_.sigma = in_.one_of(kSigmas);
        params_.k1 = in_.one_of(kConstants);
        params_.k2 = in_.one_of(kConstants);
        params_.grad_scale = in_.chance(64) ? 1024 * (in_.below(5) - 2) : 1;
        params_.mask_mode = in_.below(2);
        if (!is_ms() && in_.chance(80)) {
            static constexpr double kLambdas[] = {0.2, 0, 1, 0.5};
            params_.objective = FUSEDSSIM_OBJECTIVE_LOSS;
            params_.lambda_dssim = in_.one_of(kLambdas);
        }
        if (params_.padding == FUSEDSSIM_PADDING_VALID && params_.reduction == FUSEDSSIM_REDUCTION_NONE)
            params_.lambda_dssim = 1;
        has_taps_ = in_.chance(40);
        if (has_taps_) {
            const int radius = params_.window_size / 2;
            taps_.assign(std::size_t(params_.window_size), 0);
            double sum = 0;
            for (int k = 0; k <= radius; ++k) {
                const double tap = in_.byte() + (k ? 0 : 1);
                taps_[std::size_t(radius + k)] = taps_[std::size_t(radius - k)] = tap;
                sum += k ? 2 * tap : tap;
            }
            for (double& tap : taps_) tap /= sum;
        }
    }

    // Windows of an axis' own, and what follows from their sizes.
    void decode_windows() {
        static constexpr int kSizes[] = {0, 3, 5, 7, 9, 11, 13, 1};
        static constexpr double kSigmas[] = {0, 1.5, 0.5, 3};
        if (in_.chance(56))
            for (int axis = 0; axis < 3; ++axis) {
                params_.axis_window_size[axis] = in_.one_of(kSizes);
                params_.axis_sigma[axis] = in_.one_of(kSigmas);
                if (!in_.chance(64)) continue;
                const int size = window_of(axis), middle = size / 2;
                std::vector<double>& taps = axis_taps_[axis];
                taps.assign(std::size_t(size), 0.5 / (size > 1 ? size - 1 : 1));
                taps[std::size_t(middle)] = size > 1 ? 0.5 : 1;
            }
        int most = 0, elements = 1;
        for (int i = 0; i < dims(); ++i) {
            most = std::max(most, window_of(axis_of(i)));
            elements *= window_of(axis_of(i));
        }
        if (is_3d_ && most > 11 && params_.padding == FUSEDSSIM_PADDING_VALID) params_.padding = FUSEDSSIM_PADDING_SAME;
        if (elements > 1 && in_.chance(64)) {
            params_.sample_covariance = 1;
            params_.mask_mode = FUSEDSSIM_MASK_WEIGHT;
        }
        if (in_.chance(32)) params_.variance_grad_scale = 0.75;
    }
    // The window along an axis [D, H, W], and which of these is spatial axis i of the images.
    int window_of(int axis) const {
        return params_.axis_window_size[axis] ? params_.axis_window_size[axis] : params_.window_size;
    }
    int axis_of(int i) const { return 3 - dims() + i; }
    int crop_of(int i) const { return params_.padding == FUSEDSSIM_PADDING_VALID ? window_of(axis_of(i)) / 2 * 2 : 0; }

    void decode_shape(bool is_large) {
        const bool is_valid = params_.padding == FUSEDSSIM_PADDING_VALID;
        for (int i = 0; i < dims(); ++i) {
            const int most = is_large ? (is_3d_ ? 24 : 200) : is_valid ? 6 : is_3d_ ? 9 : 24;
            sides_[i] = 1 + crop_of(i) + in_.below(most) + (is_large && !is_valid ? most / 2 : 0);
        }
        std::int64_t elements = 1;
        for (int i = 0; i < dims(); ++i) elements *= sides_[i];
        images_ = 1 + in_.below(3);
        channels_ = in_.chance(16) ? 1 + in_.below(40) : 1 + in_.below(4);
        const std::int64_t most = is_large ? 90000 : 5000;
        if (elements * images_ * channels_ > most) channels_ = 1;
        if (elements * images_ * channels_ > most) images_ = 1;
    }

    void decode_levels() {
        ms_.levels = 1 + in_.below(FUSEDSSIM_MAX_LEVELS);
        for (int i = 0; i < dims(); ++i)
            while (ms_.levels > 1 && crop_of(i) << (ms_.levels - 1) >= sides_[i]) --ms_.levels;
        for (double& weight : ms_.weights) weight = in_.chance(64) ? in_.byte() / 64.0 : 0.25;
    }

    void decode_exec() {
        static constexpr int kThreads[] = {1, 1, 2, 0, 3, 8};
        exec_.cpu_threads = in_.one_of(kThreads);
        if (cuda() == Cuda::simulated && in_.chance(128)) exec_.device = FUSEDSSIM_CUDA;
        op_ = in_.below(4);
        grads_ = std::uint32_t(1 + in_.below(3));
        wants_out_ = function_ != Function::value_and_grad || !in_.chance(48);
    }

    void decode_arrays() {
        std::int64_t image[FUSEDSSIM_MAX_NDIM] = {images_, channels_}, map[FUSEDSSIM_MAX_NDIM] = {images_, channels_};
        for (int i = 0; i < dims(); ++i) {
            image[2 + i] = sides_[i];
            map[2 + i] = sides_[i] - crop_of(i);
        }
        const int ndim = 2 + dims();
        const int out_ndim = params_.reduction == FUSEDSSIM_REDUCTION_NONE        ? ndim
                             : params_.reduction == FUSEDSSIM_REDUCTION_PER_PLANE ? 2
                             : params_.reduction == FUSEDSSIM_REDUCTION_PER_IMAGE ? 1
                                                                                  : 0;
        const bool is_double = dtype_ == FUSEDSSIM_FLOAT64 || y_dtype_ == FUSEDSSIM_FLOAT64 ||
                               (params_.arithmetic == FUSEDSSIM_FLOAT64 && function_ != Function::scale);
        const fusedssim_dtype arithmetic = is_double ? FUSEDSSIM_FLOAT64 : FUSEDSSIM_FLOAT32;
        if (function_ == Function::scale) {
            decode_array(kGradX, dtype_, ndim, image, true);
            decode_array(kGradOut, arithmetic, in_.below(3), image, false);
            return;
        }
        decode_array(kX, dtype_, ndim, image, false);
        decode_array(kY, y_dtype_, ndim, image, values_ == Values::identical || values_ == Values::near);
        if (!is_ms() && in_.chance(80)) {
            std::int64_t shape[FUSEDSSIM_MAX_NDIM];
            const int broadcast = in_.byte();
            for (int i = 0; i < ndim; ++i) shape[i] = broadcast >> i & 1 ? 1 : image[i];
            decode_array(kMask, in_.below(2) ? arithmetic : FUSEDSSIM_BOOL, ndim, shape, false);
        }
        if (function_ == Function::backward) decode_array(kGradOut, arithmetic, out_ndim, map, false);
        if (function_ != Function::backward && wants_out_) decode_array(kOut, arithmetic, out_ndim, map, true);
        if (writes_grads() && grads_ & FUSEDSSIM_GRAD_X) decode_array(kGradX, dtype_, ndim, image, true);
        if (writes_grads() && grads_ & FUSEDSSIM_GRAD_Y) decode_array(kGradY, y_dtype_, ndim, image, true);
    }

    // Contiguous, or axes in another order, with gaps, backwards; where elements may overlap, with any small strides.
    void decode_array(ArrayName name, fusedssim_dtype dtype, int ndim, const std::int64_t* shape, bool is_distinct) {
        Array& a = arrays_[name];
        a.is_given = true;
        a.t = fusedssim_contiguous(nullptr, dtype, ndim, shape);
        if (!in_.chance(128)) return;
        a.lead = std::size_t(in_.below(4));
        int order[FUSEDSSIM_MAX_NDIM] = {0, 1, 2, 3, 4};
        for (int i = ndim - 1; i > 0; --i) std::swap(order[i], order[in_.below(i + 1)]);
        const int backwards = in_.chance(64) ? in_.byte() : 0;
        std::int64_t elements = 1;
        for (int i = 0; i < ndim; ++i) elements *= shape[i];
        const bool has_gaps = in_.chance(96) && elements < 20000;
        std::int64_t span = 0;
        for (int k = 0; k < ndim; ++k) {
            const int axis = order[k];
            const std::int64_t stride = span + 1 + (has_gaps ? in_.below(4) : 0);
            a.t.stride[axis] = backwards >> axis & 1 ? -stride : stride;
            span += stride * (shape[axis] - 1);
        }
        if (!is_distinct && in_.chance(64))
            for (int i = 0; i < ndim; ++i) a.t.stride[i] = in_.below(2) ? a.t.stride[i] : in_.below(8) - 3;
    }

    // ---- The same, spoiled ----------------------------------------------------------------------------------------

    void spoil() {
        spoiled_ = in_.chance(90) ? 1 + in_.below(3) : 0;
        for (int i = 0; i < spoiled_; ++i) spoil_one();
        if (cuda() == Cuda::real && exec_.device == FUSEDSSIM_CUDA) exec_.device = 2;
    }

    void spoil_one() {
        switch (in_.below(10)) {
            case 0: return spoil_params_int();
            case 1: return spoil_params_double();
            case 2: return spoil_exec();
            case 3: return spoil_ms();
            case 4: return spoil_taps();
            case 5: {  // one size of all images alike
                const int axis = in_.below(FUSEDSSIM_MAX_NDIM);
                const std::int64_t size = hostile_int64(in_);
                for (Array& a : arrays_)
                    if (a.is_given && axis < a.t.ndim && a.t.shape[axis] != 1) a.t.shape[axis] = size;
                return;
            }
            case 6: return spoil_others();
            default: return spoil_array(arrays_[in_.below(kArrays)]);
        }
    }

    void spoil_params_int() {
        fusedssim_params& p = params_;
        std::int32_t* const fields[] = {
            &p.padding,    &p.reduction,         &p.window_size,         &p.objective,           &p.mask_mode,
            &p.arithmetic, &p.sample_covariance, &p.axis_window_size[0], &p.axis_window_size[1], &p.axis_window_size[2],
            &p.reserved};
        const int which = in_.below(12);
        if (which < 11)
            *fields[which] = hostile_int32(in_);
        else
            p.struct_size = hostile_struct_size(in_, sizeof p);
    }
    void spoil_params_double() {
        fusedssim_params& p = params_;
        double* const fields[] = {&p.sigma,
                                  &p.k1,
                                  &p.k2,
                                  &p.data_range,
                                  &p.grad_scale,
                                  &p.lambda_dssim,
                                  &p.axis_sigma[0],
                                  &p.axis_sigma[1],
                                  &p.axis_sigma[2],
                                  &p.x_scale,
                                  &p.y_scale,
                                  &p.variance_grad_scale};
        *fields[in_.below(12)] = hostile_double(in_);
    }
    void spoil_exec() {
        fusedssim_exec& e = exec_;
        switch (in_.below(7)) {
            case 0: e.struct_size = hostile_struct_size(in_, sizeof e); break;
            case 1: e.device = hostile_int32(in_); break;
            case 2: e.device_id = hostile_int32(in_); break;
            case 3: e.cpu_threads = hostile_int32(in_); break;
            case 4: e.stream = &e; break;
            case 5: workspace_pointer_ = in_.below(2) ? Pointer::null : Pointer::misaligned; break;
            default: workspace_lacks_ = 1 + in_.byte(); break;
        }
    }
    void spoil_ms() {
        switch (in_.below(3)) {
            case 0: ms_.struct_size = hostile_struct_size(in_, sizeof ms_); break;
            case 1: ms_.levels = hostile_int32(in_); break;
            default: ms_.weights[in_.below(FUSEDSSIM_MAX_LEVELS)] = hostile_double(in_);
        }
    }
    void spoil_taps() {
        if (!has_taps_) {
            has_taps_ = true;
            taps_.assign(std::size_t(std::max(1, std::min(33, params_.window_size))), 0.5);
        }
        const int which = in_.below(4);
        std::vector<double>& taps = which < 3 && !axis_taps_[which].empty() ? axis_taps_[which] : taps_;
        taps[std::size_t(in_.byte()) % taps.size()] = hostile_double(in_);
    }
    void spoil_others() {
        switch (in_.below(6)) {
            case 0: op_ = hostile_int32(in_); break;
            case 1: grads_ = std::uint32_t(hostile_int32(in_)); break;
            case 2: factor_ = hostile_double(in_); break;
            case 3: passes_null_ = in_.below(4); break;
            case 4: saved_lacks_ = 1 + in_.byte(); break;
            default: tail_ = 1; break;  // a longer structure's unknown bytes are set
        }
    }
    void spoil_array(Array& a) {
        fusedssim_tensor& t = a.t;
        switch (in_.below(10)) {
            case 0: t.struct_size = hostile_struct_size(in_, sizeof t); break;
            case 1: t.dtype = in_.chance(128) ? in_.below(9) : hostile_int32(in_); break;
            case 2: t.ndim = in_.chance(128) ? in_.below(6) : hostile_int32(in_); break;
            case 3: t.reserved = hostile_int32(in_); break;
            case 4: t.shape[in_.below(FUSEDSSIM_MAX_NDIM)] = hostile_int64(in_); break;
            case 5:
            case 6: t.stride[in_.below(FUSEDSSIM_MAX_NDIM)] = hostile_int64(in_); break;
            case 7: a.is_given = !a.is_given; break;
            case 8:
                a.pointer = Pointer::alias;
                a.alias = ArrayName(in_.below(kArrays));
                break;
            default: a.pointer = in_.below(2) ? Pointer::null : Pointer::misaligned;
        }
    }

    // ---- Memory ---------------------------------------------------------------------------------------------------

    void allocate() {
        for (int i = 0; i < kArrays; ++i) {
            Array& a = arrays_[i];
            if (!a.is_given) continue;
            const std::size_t size = element_size(a.t.dtype);
            const Reach reach(a.t);
            // What no memory can hold must be refused, whatever its pointer is. What this machine could hold, but a
            // fuzzer will not allocate, gets no pointer.
            const bool is_impossible = i >= kFirstOutput && reach.is_impossible(size);
            if (reach.fits(size))
                a.block.allocate(a.t, a.lead * size + (a.pointer == Pointer::misaligned), i >= kFirstOutput);
            else if (is_impossible)
                a.block.allocate_bytes(64);
            else
                a.pointer = Pointer::null;
        }
        for (int i = 0; i < kArrays; ++i) {
            Array& a = arrays_[i];
            if (!a.is_given) continue;
            a.t.data = a.block.exists() && a.pointer != Pointer::null ? a.block.data() : nullptr;
            if (a.pointer != Pointer::alias) continue;
            const Array& other = arrays_[a.alias];
            // Half of an output is still the output: its elements would have to be those of the other, or none.
            const bool fits = other.is_given && other.t.data && &other != &a && other.pointer != Pointer::alias &&
                              other.block.holds(a.t);
            if (fits) a.t.data = other.t.data;
        }
        if (arrays_[kX].block.exists()) fill_images();
        if (arrays_[kMask].block.exists()) fill_mask();
        if (arrays_[kGradOut].block.exists())
            fill(arrays_[kGradOut], [&] { return in_.chance(64) ? 1.0 : 2 * random_.uniform() - 1; });
        if (function_ == Function::scale && arrays_[kGradX].block.exists())
            fill(arrays_[kGradX], [&] { return 2 * random_.uniform() - 1; });
        for (Array& a : arrays_)
            if (a.is_given) a.structure.set(a.t, tail_);
        params_.mask =
            arrays_[kMask].is_given ? static_cast<fusedssim_tensor*>(arrays_[kMask].structure.get()) : nullptr;
        // Exactly as many taps as the window says, in memory of their own.
        if (has_taps_) {
            taps_.resize(std::size_t(std::max(1, std::min(33, params_.window_size))), 0.0);
            taps_.shrink_to_fit();
            params_.taps = taps_.data();
        }
        for (int axis = 0; axis < 3; ++axis) {
            std::vector<double>& taps = axis_taps_[axis];
            if (taps.empty()) continue;
            taps.resize(std::size_t(std::max(1, std::min(33, window_of(axis)))), 0.0);
            taps.shrink_to_fit();
            params_.axis_taps[axis] = taps.data();
        }
        params_structure_.set(params_, tail_);
        ms_structure_.set(ms_, tail_);
        exec_structure_.set(exec_, tail_);
    }

    template <class F>
    void fill(Array& a, F&& next) {
        const Reach reach(a.t);
        if (reach.is_wrong || !reach.fits(element_size(a.t.dtype))) return;
        for_each_element(a.t, [&](std::int64_t offset, std::int64_t) { store(element(a, offset), a.t.dtype, next()); });
    }
    static unsigned char* element(const Array& a, std::int64_t offset) {
        return a.block.data() + offset * std::int64_t(element_size(a.t.dtype));
    }

    void fill_images() {
        const double level = random_.uniform();
        const auto value = [&]() -> double {
            switch (values_) {
                case Values::flat:
                case Values::flat_identical: return level;
                case Values::negative: return 2 * random_.uniform() - 1;
                case Values::bytes: return random_.below(256);
                case Values::tiny: return random_.uniform() * 1e-40;
                case Values::nan: return random_.below(20) ? random_.uniform() : std::nan("");
                case Values::infinite: return random_.below(20) ? random_.uniform() : HUGE_VAL;
                case Values::huge: return (random_.uniform() - 0.5) * (dtype_ == FUSEDSSIM_FLOAT64 ? 1e160 : 1e25);
                case Values::bits: {
                    const std::uint64_t bits = random_.word();
                    double any;
                    std::memcpy(&any, &bits, sizeof any);
                    return any;
                }
                default: return random_.uniform();
            }
        };
        Array &x = arrays_[kX], &y = arrays_[kY];
        fill(x, value);
        if (values_ == Values::nan && !Reach(x.t).is_wrong) store(element(x, 0), x.t.dtype, std::nan(""));
        if (!y.block.exists()) return;
        const bool is_like_x = !Reach(x.t).is_wrong && !Reach(y.t).is_wrong && x.t.ndim == y.t.ndim &&
                               x.t.dtype == y.t.dtype && std::equal(x.t.shape, x.t.shape + x.t.ndim, y.t.shape);
        if ((values_ == Values::identical || values_ == Values::near) && is_like_x) {
            const std::size_t size = element_size(x.t.dtype);
            std::vector<unsigned char> packed;
            for_each_element(x.t, [&](std::int64_t offset, std::int64_t) {
                packed.insert(packed.end(), element(x, offset), element(x, offset) + size);
            });
            for_each_element(y.t, [&](std::int64_t offset, std::int64_t number) {
                std::memcpy(element(y, offset), &packed[std::size_t(number) * size], size);
            });
            if (values_ == Values::near) store(element(y, 0), y.t.dtype, 0.5);
            return;
        }
        const double other_level = random_.uniform();
        fill(y, [&] { return values_ == Values::flat ? other_level : value(); });
    }

    void fill_mask() {
        static constexpr double kWeights[] = {0, 0, 0.25, 0.5, 1, 1};
        const int kind = in_.below(6);  // all zeros and all ones among them
        fill(arrays_[kMask], [&] { return kind == 4 ? 0.0 : kind == 5 ? 1.0 : kWeights[random_.below(6)]; });
    }

    // What the library asks for, and not a byte more.
    void allocate_workspace() {
        const auto* params = static_cast<const fusedssim_params*>(params_structure_.get());
        const auto* exec = static_cast<const fusedssim_exec*>(exec_structure_.get());
        const auto *x = pointer_to(kX), *y = pointer_to(kY);
        if (exec_.device != FUSEDSSIM_CUDA || function_ == Function::scale || is_query() || !x || !y) return;
        const std::uint32_t grads = (arrays_[kGradX].is_given ? 1u : 0u) | (arrays_[kGradY].is_given ? 2u : 0u);
        fusedssim_op op = function_ == Function::forward    ? FUSEDSSIM_OP_FORWARD
                          : function_ == Function::backward ? FUSEDSSIM_OP_BACKWARD
                                                            : FUSEDSSIM_OP_VALUE_AND_GRAD;
        std::size_t bytes = 0;
        if ((function_ == Function::forward || function_ == Function::backward) && in_.chance(128)) {
            if (fusedssim_saved_size(params, exec, FUSEDSSIM_GRAD_X | FUSEDSSIM_GRAD_Y, x, y, &bytes) == FUSEDSSIM_OK &&
                bytes && bytes <= std::size_t(kMostBytes)) {
                saved_.allocate_bytes(bytes);
                saved_bytes_ = bytes;
                if (function_ == Function::backward) {
                    op = FUSEDSSIM_OP_BACKWARD_SAVED;
                    std::memset(saved_.data(), 0, bytes);  // maps of zeros are maps, too
                }
            }
        }
        const fusedssim_status status =
            is_ms() ? fusedssim_ms_workspace_size(params, static_cast<fusedssim_ms_params*>(ms_structure_.get()), exec,
                                                  grads, x, y, &bytes)
                    : fusedssim_workspace_size(params, exec, op, grads, x, y, &bytes);
        if (status != FUSEDSSIM_OK || bytes > std::size_t(kMostBytes)) return;
        if (bytes) {
            workspace_.allocate_bytes(bytes);
            exec_.workspace = workspace_pointer_ == Pointer::null
                                  ? nullptr
                                  : workspace_.data() + (workspace_pointer_ == Pointer::misaligned);
            exec_.workspace_bytes = bytes - std::min<std::size_t>(bytes, std::size_t(workspace_lacks_));
        }
        exec_structure_.set(exec_, tail_);
    }

    std::vector<std::vector<unsigned char>> memory() const {
        std::vector<std::vector<unsigned char>> all;
        for (const Array& a : arrays_) all.push_back(a.block.exists() ? a.block.copy() : std::vector<unsigned char>());
        return all;
    }

    // ---- Calls ----------------------------------------------------------------------------------------------------

    const fusedssim_tensor* pointer_to(ArrayName name) const {
        return arrays_[name].is_given ? static_cast<const fusedssim_tensor*>(arrays_[name].structure.get()) : nullptr;
    }

    fusedssim_status call() {
        const auto* params =
            passes_null_ == 1 ? nullptr : static_cast<const fusedssim_params*>(params_structure_.get());
        const auto* exec = passes_null_ == 2 ? nullptr : static_cast<const fusedssim_exec*>(exec_structure_.get());
        const auto* ms = passes_null_ == 3 ? nullptr : static_cast<const fusedssim_ms_params*>(ms_structure_.get());
        const fusedssim_tensor *x = pointer_to(kX), *y = pointer_to(kY), *out = pointer_to(kOut),
                               *grad_out = pointer_to(kGradOut), *grad_x = pointer_to(kGradX),
                               *grad_y = pointer_to(kGradY);
        // On the CPU nothing is ever saved, so any byte here is one too many.
        void* const saved = saved_bytes_ ? saved_.data() : saved_lacks_ ? &tail_ : nullptr;
        const std::size_t saved_bytes =
            saved_bytes_ ? saved_bytes_ - std::min(saved_bytes_, saved_lacks_) : saved_lacks_;
        size_t bytes = kUntouched;
        fusedssim_status status = FUSEDSSIM_OK;
        switch (function_) {
            case Function::forward: return fusedssim_forward(params, exec, x, y, out, saved, saved_bytes);
            case Function::value_and_grad: return fusedssim_value_and_grad(params, exec, x, y, out, grad_x, grad_y);
            case Function::backward:
                return fusedssim_backward(params, exec, x, y, saved, saved_bytes, grad_out, grad_x, grad_y);
            case Function::ms_forward: return fusedssim_ms_forward(params, ms, exec, x, y, out);
            case Function::ms_value_and_grad:
                return fusedssim_ms_value_and_grad(params, ms, exec, x, y, out, grad_x, grad_y);
            case Function::scale: return fusedssim_scale(exec, factor_, grad_out, grad_x);
            case Function::workspace_size:
                status = fusedssim_workspace_size(params, exec, op_, grads_, x, y, &bytes);
                break;
            case Function::ms_workspace_size:
                status = fusedssim_ms_workspace_size(params, ms, exec, grads_, x, y, &bytes);
                break;
            case Function::saved_size: status = fusedssim_saved_size(params, exec, grads_, x, y, &bytes); break;
            case Function::infos:
            case Function::count: break;
        }
        REQUIRE((bytes == kUntouched) == (status != FUSEDSSIM_OK));
        return status;
    }

    // Also with structures that are shorter or longer than the library's.
    void run_infos() {
        fusedssim_info info{};
        info.struct_size = in_.chance(128) ? hostile_struct_size(in_, sizeof info) : std::uint32_t(sizeof info);
        fusedssim_cuda_device_info device{};
        device.struct_size = in_.chance(128) ? hostile_struct_size(in_, sizeof device) : std::uint32_t(sizeof device);
        Structure structure;
        structure.set(info, 0xa5);
        std::vector<unsigned char> before = structure.copy();
        last_outcome = {int(function_), fusedssim_get_info(static_cast<fusedssim_info*>(structure.get())), 0, false, 0};
        check_structure(structure, before, sizeof info, last_outcome.status);
        structure.set(device, 0xa5);
        before = structure.copy();
        const std::int32_t id = in_.chance(128) ? hostile_int32(in_) : 0;
        const fusedssim_status status =
            fusedssim_get_cuda_device_info(id, static_cast<fusedssim_cuda_device_info*>(structure.get()));
        check_structure(structure, before, sizeof device, status);
        REQUIRE(status == FUSEDSSIM_OK || *fusedssim_last_error());
        REQUIRE(fusedssim_get_info(nullptr) == FUSEDSSIM_INVALID_ARGUMENT);
        REQUIRE(fusedssim_get_cuda_device_info(id, nullptr) == FUSEDSSIM_INVALID_ARGUMENT);
        check_error_names();
        const char* const name = fusedssim_status_string(hostile_int32(in_));
        REQUIRE(name && *name && fusedssim_version() && std::strlen(fusedssim_last_error()) < 65536);
    }
    // Other names for arguments: any strings, and always a text.
    void check_error_names() {
        const std::string text = fusedssim_last_error(), longest(in_.chance(32) ? 3000 : 3, 'n');
        const char* const words[] = {"x", "y",    "params.", "params.sigma", "img1",         "",
                                     ".", "%s%n", "info",    "x.",           longest.c_str()};
        std::vector<const char*> names;
        for (int pairs = in_.below(5); pairs > 0; --pairs) {
            names.push_back(in_.one_of(words));
            names.push_back(in_.one_of(words));
        }
        names.push_back(nullptr);
        names.shrink_to_fit();
        const char* renamed = fusedssim_last_error_as(names.data());
        REQUIRE(renamed);
        const std::string first = renamed;
        REQUIRE(text == fusedssim_last_error());
        renamed = fusedssim_last_error_as(names.data());
        REQUIRE(renamed && first == renamed);
        renamed = fusedssim_last_error_as(nullptr);
        REQUIRE(renamed && text == renamed);
    }
    // struct_size stays; what is behind the structure stays; a call that fails leaves all of it.
    static void check_structure(const Structure& s, const std::vector<unsigned char>& before, std::size_t size,
                                fusedssim_status status) {
        const std::vector<unsigned char> now = s.copy();
        const std::size_t from = status == FUSEDSSIM_OK ? std::min(size, now.size()) : 0;
        REQUIRE(std::equal(now.begin(), now.begin() + 4, before.begin()));
        REQUIRE(std::equal(now.begin() + std::ptrdiff_t(from), now.end(), before.begin() + std::ptrdiff_t(from)));
    }

    // ---- Checks ---------------------------------------------------------------------------------------------------

    void check_status(fusedssim_status status) const {
        REQUIRE(status != FUSEDSSIM_INTERNAL_ERROR);
        REQUIRE(std::strcmp(fusedssim_status_string(status), "unknown status"));
        REQUIRE(spoiled_ || status == FUSEDSSIM_OK);
        if (status == FUSEDSSIM_OK) {
            REQUIRE(!has_wrong_params());
            REQUIRE(!has_wrong_exec());
            REQUIRE(!has_wrong_arrays());
        } else {
            REQUIRE(*fusedssim_last_error());
            REQUIRE(std::strlen(fusedssim_last_error()) < 4096);
        }
    }

    // What the header forbids, said once more.
    bool has_wrong_params() const {
        if (function_ == Function::scale) return !std::isfinite(factor_);
        const fusedssim_params p = params_structure_.seen(fusedssim_params FUSEDSSIM_PARAMS_DEFAULT);
        const auto is_positive = [](double v) { return v > 0 && std::isfinite(v); };
        const auto is_constant = [](double v) { return v >= 0 && std::isfinite(v); };
        bool is_wrong = passes_null_ == 1 || p.struct_size < 16 || (p.struct_size > sizeof p && tail_) ||
                        p.padding < 0 || p.padding > 4 || p.reduction < 0 || p.reduction > 4 || p.window_size < 1 ||
                        p.window_size > 33 || p.window_size % 2 == 0 || (!p.taps && !is_positive(p.sigma)) ||
                        !is_positive(p.data_range) || !is_constant(p.k1) || !is_constant(p.k2) ||
                        !std::isfinite(p.grad_scale) || p.objective < 0 || p.objective > 1 || p.mask_mode < 0 ||
                        p.mask_mode > 1 || p.arithmetic < 0 || p.arithmetic > 1 || p.sample_covariance < 0 ||
                        p.sample_covariance > 1 || p.reserved || !is_positive(p.x_scale) || !is_positive(p.y_scale) ||
                        !(p.variance_grad_scale >= 0 && p.variance_grad_scale <= 1);
        if (p.sample_covariance && p.mask && p.mask_mode == FUSEDSSIM_MASK_NORMALIZED) is_wrong = true;
        for (int axis = 0; axis < 3; ++axis) {
            const int size = p.axis_window_size[axis];
            if (size && (size < 1 || size > 33 || size % 2 == 0)) is_wrong = true;
            if (p.axis_sigma[axis] != 0 && !is_positive(p.axis_sigma[axis])) is_wrong = true;
        }
        if (p.objective == FUSEDSSIM_OBJECTIVE_LOSS)
            is_wrong = is_wrong || !(p.lambda_dssim >= 0 && p.lambda_dssim <= 1);
        for (int axis = -1; axis < 3; ++axis) {
            const double* const taps = axis < 0 ? p.taps : p.axis_taps[axis];
            if (is_wrong || !taps) continue;
            const int size = axis >= 0 && p.axis_window_size[axis] ? p.axis_window_size[axis] : p.window_size;
            double sum = 0;
            for (int i = 0; i < size; ++i) {
                is_wrong = is_wrong || !is_constant(taps[i]) || taps[i] != taps[size - 1 - i];
                sum += taps[i];
            }
            is_wrong = is_wrong || !(std::fabs(sum - 1) <= 1.0001e-4);
        }
        if (!is_ms()) return is_wrong;
        const fusedssim_ms_params m = ms_structure_.seen(fusedssim_ms_params FUSEDSSIM_MS_PARAMS_DEFAULT);
        is_wrong = is_wrong || passes_null_ == 3 || m.levels < 1 || m.levels > FUSEDSSIM_MAX_LEVELS || p.mask ||
                   p.objective == FUSEDSSIM_OBJECTIVE_LOSS || p.reduction == FUSEDSSIM_REDUCTION_NONE;
        for (int i = 0; !is_wrong && i < m.levels; ++i) is_wrong = !is_constant(m.weights[i]);
        return is_wrong;
    }
    bool has_wrong_exec() const {
        const fusedssim_exec e = exec_structure_.seen(fusedssim_exec FUSEDSSIM_EXEC_DEFAULT);
        return passes_null_ == 2 || e.struct_size < 16 || (e.struct_size > sizeof e && tail_) || e.device < 0 ||
               e.device > 1 || e.device_id < 0 || e.cpu_threads < 0;
    }
    bool has_wrong_arrays() const {
        // Params of an older library may be too short to have a mask.
        const bool has_mask = params_structure_.seen(fusedssim_params FUSEDSSIM_PARAMS_DEFAULT).mask;
        for (int i = 0; i < kArrays; ++i) {
            const Array& a = arrays_[i];
            if (!a.is_given || !is_used(ArrayName(i)) || (i == kMask && !has_mask)) continue;
            const fusedssim_tensor& t = a.t;
            if (t.struct_size < sizeof t || (t.struct_size > sizeof t && tail_) || t.reserved) return true;
            const bool is_image = i == kX || i == kY;
            const fusedssim_dtype last = i == kMask ? FUSEDSSIM_BOOL : FUSEDSSIM_BFLOAT16;
            if (t.dtype < 0 || (t.dtype > last && !(is_image && is_integer(t.dtype))) || Reach(t).is_wrong) return true;
            if (is_query()) continue;
            if (!t.data || reinterpret_cast<std::uintptr_t>(t.data) % element_size(t.dtype)) return true;
            if (i < kFirstOutput) continue;
            for (int k = 0; k < kArrays; ++k)
                if (k != i && arrays_[k].is_given && is_used(ArrayName(k)) && arrays_[k].t.data == t.data) return true;
        }
        return false;
    }
    bool is_used(ArrayName name) const {
        switch (function_) {
            case Function::scale: return name == kGradX || name == kGradOut;
            case Function::forward: return name == kX || name == kY || name == kMask || name == kOut;
            case Function::ms_forward: return name == kX || name == kY || name == kOut;
            case Function::backward: return name != kOut;
            case Function::value_and_grad: return name != kGradOut;
            case Function::ms_value_and_grad: return name != kGradOut && name != kMask;
            default: return name == kX || name == kY || (name == kMask && !is_ms());
        }
    }
    bool is_written(ArrayName name) const { return name >= kFirstOutput && is_used(name); }

    void check_memory(const std::vector<std::vector<unsigned char>>& before, fusedssim_status status) const {
        for (int i = 0; i < kArrays; ++i) {
            const Array& a = arrays_[i];
            if (!a.block.exists()) continue;
            if (status == FUSEDSSIM_OK && is_written(ArrayName(i)) && a.is_given && !is_query())
                REQUIRE(a.block.equals_outside(before[std::size_t(i)], a.t));
            else
                REQUIRE(a.block.equals(before[std::size_t(i)]));
        }
        for (const Block* const b : {&workspace_, &saved_}) REQUIRE(b->has_canaries());
        REQUIRE(params_structure_.is_like(params_) && exec_structure_.is_like(exec_) && ms_structure_.is_like(ms_));
    }

    void restore(const std::vector<std::vector<unsigned char>>& before) {
        for (int i = 0; i < kArrays; ++i)
            if (arrays_[i].block.exists()) arrays_[i].block.restore(before[std::size_t(i)]);
    }

    // Once more, with another number of threads.
    void check_again(const std::vector<std::vector<unsigned char>>& before) {
        const auto first = memory();
        restore(before);
        if (exec_.cpu_threads >= 0) exec_.cpu_threads = exec_.cpu_threads == 1 ? 2 : 1;
        exec_structure_.set(exec_, tail_);
        REQUIRE(call() == FUSEDSSIM_OK);
        REQUIRE(memory() == first);
    }

    // The same where memory runs out: at one allocation, or from there on. Either the call does without, or it fails.
    void check_out_of_memory(const std::vector<std::vector<unsigned char>>& before) {
        const auto first = memory();
        const int allocations = in_.below(8);
        const bool all_after = in_.below(2) != 0;
        restore(before);
        fail_memory(allocations, all_after);
        const fusedssim_status status = call();
        const bool has_failed = mend_memory();
        last_outcome.status = status;
        if (status == FUSEDSSIM_OK) {
            REQUIRE(memory() == first);
        } else {
            REQUIRE(has_failed && status == FUSEDSSIM_OUT_OF_MEMORY);
            check_memory(before, status);
        }
        restore(first);
    }

    // Contiguous inputs give the bits of strided ones.
    void check_contiguous(const std::vector<std::vector<unsigned char>>& before) {
        const auto first = memory();
        restore(before);
        Block blocks[kFirstOutput];
        for (int i = 0; i < kFirstOutput; ++i) {
            Array& a = arrays_[i];
            if (!a.is_given) continue;
            const std::size_t size = element_size(a.t.dtype);
            fusedssim_tensor t = fusedssim_contiguous(nullptr, a.t.dtype, a.t.ndim, a.t.shape);
            blocks[i].allocate(t, 0, false);
            for_each_element(a.t, [&](std::int64_t offset, std::int64_t number) {
                std::memcpy(blocks[i].data() + number * std::int64_t(size), element(a, offset), size);
            });
            t.data = blocks[i].data();
            a.structure.set(t, 0);
        }
        if (params_.mask) params_.mask = pointer_to(kMask);
        params_structure_.set(params_, 0);
        REQUIRE(call() == FUSEDSSIM_OK);
        for (int i = kFirstOutput; i < kArrays; ++i)
            if (arrays_[i].block.exists()) REQUIRE(arrays_[i].block.equals(first[std::size_t(i)]));
    }

    void check_values() const {
        if (function_ == Function::scale) return;
        const bool has_constants = params_.k1 > 0 && params_.k2 > 0;
        const bool is_loss = params_.objective == FUSEDSSIM_OBJECTIVE_LOSS;
        const bool is_identical = values_ == Values::identical || values_ == Values::flat_identical;
        const bool has_mask = arrays_[kMask].is_given;
        const double counted = map_elements();
        if (arrays_[kOut].is_given) {
            for_each_element(arrays_[kOut].t, [&](std::int64_t offset, std::int64_t) {
                const double value = load(element(arrays_[kOut], offset), arrays_[kOut].t.dtype);
                // Levels of MS-SSIM without a weight count as 1, whatever they hold.
                const bool has_weight =
                    !is_ms() || std::any_of(ms_.weights, ms_.weights + ms_.levels, [](double w) { return w > 0; });
                if (values_ == Values::nan && !is_integer(dtype_) && params_.reduction <= FUSEDSSIM_REDUCTION_SUM &&
                    !has_mask && has_weight)
                    REQUIRE(std::isnan(value));
                if (!is_tame(values_)) return;
                // A mean over a mask of zeros is NaN.
                if (has_mask && std::isnan(value)) return;
                REQUIRE(std::isfinite(value));
                const double most = params_.reduction == FUSEDSSIM_REDUCTION_SUM ? counted : 1;
                if (is_loss)
                    REQUIRE(value >= 0);
                else
                    REQUIRE(value <= most && value >= -most * 1.0001);
                if (is_ms()) REQUIRE(value >= 0);
                if (is_identical && is_loss) REQUIRE(value == 0);
                if (is_identical && !is_loss && !has_mask) REQUIRE(value == double(float(most)) || value == most);
                if (is_identical && !is_loss && has_mask && params_.reduction != FUSEDSSIM_REDUCTION_SUM &&
                    params_.reduction != FUSEDSSIM_REDUCTION_NONE)
                    REQUIRE(value == 1);
            });
        }
        if (!is_identical || !has_constants || has_mask) return;
        for (const ArrayName name : {kGradX, kGradY})
            if (arrays_[name].is_given)
                for_each_element(arrays_[name].t, [&](std::int64_t offset, std::int64_t) {
                    REQUIRE(load(element(arrays_[name], offset), arrays_[name].t.dtype) == 0);
                });
    }
    double map_elements() const {
        double elements = images_ * channels_;
        for (int i = 0; !is_ms() && i < dims(); ++i) elements *= sides_[i] - crop_of(i);
        return elements;
    }

    bool is_ms() const {
        return function_ == Function::ms_forward || function_ == Function::ms_value_and_grad ||
               function_ == Function::ms_workspace_size;
    }
    bool is_query() const {
        return function_ == Function::workspace_size || function_ == Function::ms_workspace_size ||
               function_ == Function::saved_size;
    }
    int dims() const { return is_3d_ ? 3 : 2; }

    static constexpr size_t kUntouched = size_t(-3);

    Input in_;
    Random random_;
    Function function_{};
    bool is_3d_ = false, has_taps_ = false, wants_out_ = true;
    fusedssim_dtype dtype_ = 0, y_dtype_ = 0;  // of the images
    int sides_[3] = {}, images_ = 1, channels_ = 1;
    Values values_{};
    fusedssim_params params_ = FUSEDSSIM_PARAMS_DEFAULT;
    fusedssim_ms_params ms_ = FUSEDSSIM_MS_PARAMS_DEFAULT;
    fusedssim_exec exec_ = FUSEDSSIM_EXEC_DEFAULT;
    fusedssim_op op_ = 0;
    fusedssim_grads grads_ = 0;
    double factor_ = 1.5;
    std::vector<double> taps_, axis_taps_[3];
    Array arrays_[kArrays];
    Structure params_structure_, ms_structure_, exec_structure_;
    Block workspace_, saved_;
    std::size_t saved_bytes_ = 0, saved_lacks_ = 0;
    int workspace_lacks_ = 0;
    Pointer workspace_pointer_ = Pointer::normal;
    int passes_null_ = 0;
    unsigned char tail_ = 0;
    int spoiled_ = 0;
};

}  // namespace

}  // namespace fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Case(data, size).run();
    return 0;
}
