// SPDX-License-Identifier: MIT
//
// `_core.info()` and `_core.version()`.
#pragma once

#include <string>

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "errors.h"
#include "fusedssim/fusedssim.h"
#include "platform.h"

inline nanobind::dict library_info() {
    namespace nb = nanobind;
    fusedssim_info info{};
    info.struct_size = sizeof(info);
    run([&] { return fusedssim_get_info(&info); });
    nb::list devices;
    for (int32_t index = 0; index < info.cuda_device_count; ++index) {
        fusedssim_cuda_device_info device{};
        device.struct_size = sizeof(device);
        run([&] { return fusedssim_get_cuda_device_info(index, &device); });
        nb::dict entry;
        entry["index"] = index;
        entry["name"] = nb::cast(static_cast<const char*>(device.name));
        entry["compute_capability"] = device.compute_capability;
        entry["multiprocessors"] = device.multiprocessors;
        entry["memory_bytes"] = device.memory_bytes;
        entry["usable"] = device.usable != 0;
        devices.append(entry);
    }
    nb::dict result;
    result["version"] = nb::cast(fusedssim_version());
    result["library_path"] = fusedssim::platform::file_of(reinterpret_cast<const void*>(&fusedssim_version));
    result["cuda_built"] = info.cuda_built != 0;
    result["cuda_architectures"] = nb::cast(info.cuda_architectures);
    result["cuda_compiler"] = nb::cast(info.cuda_compiler);
    result["cuda_problem"] = nb::cast(info.cuda_problem);
    result["cuda_driver_version"] = info.cuda_driver_version;
    result["cuda_devices"] = devices;
    result["cpu_isa"] = nb::cast(info.cpu_isa);
    result["cpu_threads"] = info.cpu_threads;
    return result;
}

inline void bind_info(nanobind::module_& m) {
    m.def("version", [] { return std::string(fusedssim_version()); });
    m.def("info", &library_info);
}
