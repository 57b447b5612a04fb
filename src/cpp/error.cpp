// SPDX-License-Identifier: MIT
#include "error.h"

#include <cstdarg>
#include <cstdio>

namespace fusedssim {

namespace {
// A plain array: setting it can neither throw nor run at thread exit.
thread_local char error_text[1024] = "";
}  // namespace

void fail(fusedssim_status status, const char* format, ...) {
    char text[sizeof error_text];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    throw Error(status, text);
}

const char* last_error() { return error_text; }

void set_last_error(const char* text) noexcept { std::snprintf(error_text, sizeof error_text, "%s", text); }

}  // namespace fusedssim
