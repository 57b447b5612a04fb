// SPDX-License-Identifier: MIT
//
// `_core.Settings`: what a call computes. Its properties are the fields of fused_ssim._base.settings.Settings, by the
// same names (a test compares them). To add a setting that is a member of fusedssim_params takes one line in
// bind_settings().
#pragma once

#include <cstdint>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "errors.h"
#include "fusedssim/fusedssim.h"

struct Settings {
    fusedssim_params params = FUSEDSSIM_PARAMS_DEFAULT;  // without windows and pointers, so that it can be copied
    // One number for all spatial axes, or one for each.
    std::vector<int32_t> window_size{params.window_size};
    std::vector<double> sigma{params.sigma};
    std::vector<double> taps;     // window after window, each of its window_size; none: Gaussians
    std::vector<double> weights;  // of the levels of MS-SSIM; none: SSIM
    ImageNames names;

    bool is_multi_scale() const { return !weights.empty(); }

    // Completes `params` for images with so many spatial axes. They then point into this object.
    void set_windows(size_t spatial_dims) {
        check_count("window_size", window_size.size(), spatial_dims);
        check_count("sigma", sigma.size(), spatial_dims);
        const int64_t all_taps = std::accumulate(window_size.begin(), window_size.end(), int64_t(0));
        if (!taps.empty() && all_taps != static_cast<int64_t>(taps.size())) {
            throw nanobind::value_error("the number of taps is not that of window_size");
        }
        params.window_size = window_size[0];
        params.sigma = sigma[0];
        const bool is_one_window = window_size.size() == 1;
        if (!taps.empty() && is_one_window) params.taps = taps.data();
        size_t first_tap = 0;
        for (size_t axis = 0; axis < spatial_dims; ++axis) {
            const size_t native_axis = 3 - spatial_dims + axis;
            if (!is_one_window) params.axis_window_size[native_axis] = window_size[axis];
            if (taps.empty()) {
                if (sigma.size() > 1) params.axis_sigma[native_axis] = sigma[axis];
            } else if (!is_one_window) {
                params.axis_taps[native_axis] = taps.data() + first_tap;
                first_tap += static_cast<size_t>(window_size[axis]);
            }
        }
    }

    // The part of the settings that only MS-SSIM has.
    fusedssim_ms_params levels() const {
        if (weights.size() > FUSEDSSIM_MAX_LEVELS) {
            const std::string text = std::to_string(weights.size()) + " weights; expected at most " +
                                     std::to_string(FUSEDSSIM_MAX_LEVELS) + ", one for each scale";
            throw nanobind::value_error(text.c_str());
        }
        fusedssim_ms_params result = FUSEDSSIM_MS_PARAMS_DEFAULT;
        result.levels = static_cast<int32_t>(weights.size());
        for (size_t level = 0; level < FUSEDSSIM_MAX_LEVELS; ++level) {
            result.weights[level] = level < weights.size() ? weights[level] : 0.0;
        }
        return result;
    }

private:
    static void check_count(const char* name, size_t count, size_t spatial_dims) {
        if (count == 1 || count == spatial_dims) return;
        const std::string text = std::string(name) + " has " + std::to_string(count) + " numbers; expected 1 or " +
                                 std::to_string(spatial_dims);
        throw nanobind::value_error(text.c_str());
    }
};

// A property that is a member of the C structure, as it is.
template <typename T>
void bind_param(nanobind::class_<Settings>& type, const char* name, T fusedssim_params::* member) {
    type.def_prop_rw(
        name, [member](const Settings& self) { return self.params.*member; },
        [member](Settings& self, T value) { self.params.*member = value; });
}

// A property that is one number, or one for each axis.
template <typename T>
void bind_each(nanobind::class_<Settings>& type, const char* name, std::vector<T> Settings::* member) {
    type.def_prop_rw(
        name, [member](const Settings& self) { return self.*member; },
        [member](Settings& self, std::vector<T> value) { self.*member = std::move(value); });
}

// A property that is a list of numbers; None where there are none.
inline void bind_numbers(nanobind::class_<Settings>& type, const char* name, std::vector<double> Settings::* member) {
    using Numbers = std::optional<std::vector<double>>;
    type.def_prop_rw(
        name, [member](const Settings& self) { return (self.*member).empty() ? Numbers() : Numbers(self.*member); },
        [member](Settings& self, Numbers value) { self.*member = value ? std::move(*value) : std::vector<double>(); },
        nanobind::for_setter(nanobind::arg("value").none()));
}

inline void bind_settings(nanobind::module_& m) {
    namespace nb = nanobind;
    nb::class_<Settings> type(m, "Settings", "What a call computes, by the names of fused_ssim's own Settings.");
    type.def(nb::init<>());
    bind_param(type, "padding", &fusedssim_params::padding);
    bind_param(type, "reduction", &fusedssim_params::reduction);
    bind_each(type, "window_size", &Settings::window_size);
    bind_each(type, "sigma", &Settings::sigma);
    bind_param(type, "k1", &fusedssim_params::k1);
    bind_param(type, "k2", &fusedssim_params::k2);
    bind_param(type, "data_range", &fusedssim_params::data_range);
    bind_param(type, "arithmetic", &fusedssim_params::arithmetic);
    bind_numbers(type, "taps", &Settings::taps);
    bind_numbers(type, "weights", &Settings::weights);
    type.def_prop_rw(
        "normalized", [](const Settings& self) { return self.params.mask_mode == FUSEDSSIM_MASK_NORMALIZED; },
        [](Settings& self, bool value) {
            self.params.mask_mode = value ? FUSEDSSIM_MASK_NORMALIZED : FUSEDSSIM_MASK_WEIGHT;
        });
    type.def_prop_rw(
        "sample_covariance", [](const Settings& self) { return self.params.sample_covariance != 0; },
        [](Settings& self, bool value) { self.params.sample_covariance = value; });
    type.def_prop_rw(
        "integer_scale", [](const Settings& self) { return std::make_pair(self.params.x_scale, self.params.y_scale); },
        [](Settings& self, std::pair<double, double> value) {
            self.params.x_scale = value.first;
            self.params.y_scale = value.second;
        });
    type.def_prop_rw(
        "lambda_dssim",
        [](const Settings& self) {
            return self.params.objective == FUSEDSSIM_OBJECTIVE_LOSS ? std::optional<double>(self.params.lambda_dssim)
                                                                     : std::nullopt;
        },
        [](Settings& self, std::optional<double> value) {
            self.params.objective = value ? FUSEDSSIM_OBJECTIVE_LOSS : FUSEDSSIM_OBJECTIVE_SSIM;
            if (value) self.params.lambda_dssim = *value;
        },
        nb::for_setter(nb::arg("value").none()));
    type.def_prop_rw(
        "names", [](const Settings& self) { return std::make_pair(self.names.x, self.names.y); },
        [](Settings& self, std::pair<std::string, std::string> value) {
            self.names = {std::move(value.first), std::move(value.second)};
        });
}
