// SPDX-License-Identifier: MIT
//
// `_core.Settings`: what a call computes. Its properties are the fields of fused_ssim._base.settings.Settings, by the
// same names (a test compares them). Those that are members of fusedssim_params stand in names.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "fusedssim/fusedssim.h"
#include "names.h"
#include "window_settings.h"

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
        const auto all = [](const auto& values) {
            return Numbers<typename std::decay_t<decltype(values)>::value_type>{values.data(), values.size()};
        };
        ::set_windows(params, {all(window_size), all(sigma), all(taps)}, spatial_dims);
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
    for_each_param([&type](const char* name, auto member) { bind_param(type, name, member); });
    bind_each(type, "window_size", &Settings::window_size);
    bind_each(type, "sigma", &Settings::sigma);
    bind_numbers(type, "taps", &Settings::taps);
    bind_numbers(type, "weights", &Settings::weights);
    type.def_prop_rw(
        "normalized", [](const Settings& self) { return self.params.mask_mode == FUSEDSSIM_MASK_NORMALIZED; },
        [](Settings& self, bool value) {
            self.params.mask_mode = value ? FUSEDSSIM_MASK_NORMALIZED : FUSEDSSIM_MASK_WEIGHT;
        });
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
