// SPDX-License-Identifier: MIT
//
// How a call fails. A text names arguments, and a binding in another language has other names for them. So fail() marks
// each name that it prints: {x} is the argument x of fusedssim.h, {params.sigma} a field of params.
// fusedssim_last_error() leaves the marks out, fusedssim_last_error_as() puts other names in their place.
#pragma once

#include <exception>
#include <string>
#include <utility>

#include "fusedssim/fusedssim.h"

namespace fusedssim {

// Thrown inside the library; api.cpp turns it into a status and the thread's error text.
class Error : public std::exception {
public:
    Error(fusedssim_status status, std::string text) : status_(status), text_(std::move(text)) {}
    fusedssim_status status() const { return status_; }
    const char* what() const noexcept override { return text_.c_str(); }  // with its marks

private:
    fusedssim_status status_;
    std::string text_;
};

constexpr fusedssim_status kInvalid = FUSEDSSIM_INVALID_ARGUMENT;

// Throws an Error. The format is that of printf, and marks the names of arguments, also those that it takes from "%s":
//     fail(FUSEDSSIM_INVALID_ARGUMENT, "{%s}.shape[%d] = %lld, expected at least 1", name, axis, size);
// A name without a mark fails the test error_marks.
[[noreturn]] void fail(fusedssim_status status, const char* format, ...) __attribute__((format(printf, 2, 3)));

// The text behind fusedssim_last_error() and fusedssim_last_error_as(), of this thread. It is set with its marks.
void set_last_error(const char* text) noexcept;
const char* last_error() noexcept;
const char* last_error_as(const char* const* names) noexcept;

}  // namespace fusedssim
