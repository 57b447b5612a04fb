// SPDX-License-Identifier: MIT
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
    const char* what() const noexcept override { return text_.c_str(); }

private:
    fusedssim_status status_;
    std::string text_;
};

// Throws an Error with a text in the manner of printf.
[[noreturn]] void fail(fusedssim_status status, const char* format, ...) __attribute__((format(printf, 2, 3)));

// The text behind fusedssim_last_error(), of this thread.
const char* last_error();
void set_last_error(const char* text) noexcept;

}  // namespace fusedssim
