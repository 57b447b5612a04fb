// SPDX-License-Identifier: MIT
#include "error.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "core/dtype.h"

namespace fusedssim {

namespace {

// Plain arrays: setting them can neither throw nor run at thread exit.
thread_local char marked_text[1024] = "";
thread_local char plain_text[sizeof marked_text] = "";
thread_local char renamed_text[2 * sizeof marked_text] = "";

bool is_of_name(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.'; }

// The length of the name in a mark that begins at `text`, or 0 if none does.
std::size_t marked_name(const char* text) {
    std::size_t length = 0;
    if (*text != '{') return 0;
    while (is_of_name(text[1 + length])) ++length;
    return text[1 + length] == '}' ? length : 0;
}

// Appends to a text of fixed size, and leaves out what does not fit.
class Writer {
public:
    Writer(char* text, std::size_t size) : at_(text), end_(text + size - 1) { *at_ = '\0'; }
    void add(const char* text, std::size_t length) {
        for (std::size_t i = 0; i < length && at_ < end_; ++i) *at_++ = text[i];
        *at_ = '\0';
    }

private:
    char *at_, *const end_;
};

// Writes a name as the first pair of `names` that fits wants it: the whole name, or a first part that ends with a dot.
void add_renamed(Writer& to, const char* name, std::size_t length, const char* const* names) {
    for (; names && names[0] && names[1]; names += 2) {
        const std::size_t from = std::strlen(names[0]);
        const bool is_prefix = from > 0 && from < length && names[0][from - 1] == '.';
        if ((from != length && !is_prefix) || std::memcmp(name, names[0], from) != 0) continue;
        to.add(names[1], std::strlen(names[1]));
        to.add(name + from, length - from);
        return;
    }
    to.add(name, length);
}

void write_without_marks(char* to, std::size_t size, const char* const* names) {
    Writer writer(to, size);
    for (const char* at = marked_text; *at;) {
        const std::size_t length = marked_name(at);
        if (length)
            add_renamed(writer, at + 1, length, names);
        else
            writer.add(at, 1);
        at += length ? length + 2 : 1;
    }
}

}  // namespace

void fail(fusedssim_status status, const char* format, ...) {
    char text[sizeof marked_text];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    throw Error(status, text);
}

void unexpected_dtype(Dtype dtype) { fail(FUSEDSSIM_INTERNAL_ERROR, "dtype %d has no case in a switch", int(dtype)); }

void set_last_error(const char* text) noexcept {
    std::snprintf(marked_text, sizeof marked_text, "%s", text);
    write_without_marks(plain_text, sizeof plain_text, nullptr);
}

const char* last_error() noexcept { return plain_text; }

const char* last_error_as(const char* const* names) noexcept {
    write_without_marks(renamed_text, sizeof renamed_text, names);
    return renamed_text;
}

}  // namespace fusedssim
