// SPDX-License-Identifier: MIT
//
// Error texts mark the names of arguments, so that a binding can put its own names in their place (src/cpp/error.h). A
// name without a mark would reach users of the binding as it stands. Two ways to notice it:
//
//     error_marks_test sources <folder>   reads the source files: every string of a call that may fail
//     error_marks_test calls              makes the library fail in as many ways as there are, and reads the texts
#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include "fusedssim/fusedssim.h"

namespace {

int failures = 0;

bool is_of_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

// Names of arguments and of fields of the structures. The first ones are never anything else in a text.
const std::set<std::string> kNames = {"x",           "y",          "grad_x",       "grad_y",      "grad_out",
                                      "saved_bytes", "device_id",  "params",       "exec",        "ms",
                                      "op",          "grads",      "window_size",  "k1",          "k2",
                                      "data_range",  "grad_scale", "lambda_dssim", "cpu_threads", "workspace_bytes",
                                      "mask_mode",   "data_ranges"};
// These are English words, too: names if a value or a part of them is spoken of.
const std::set<std::string> kWords = {"out",   "saved",   "grad",    "scale", "factor", "bytes",  "info",
                                      "sigma", "padding", "weights", "taps",  "levels", "stream", "workspace",
                                      "mask",  "names",   "device",  "ndim",  "dtype",  "shape",  "stride"};

// A name of kNames or kWords in `text` that has no mark; "" if there is none. `mark_end`: what stands behind a mark.
std::string unmarked_name(const std::string& text, char mark_end) {
    for (std::size_t begin = 0; begin < text.size();) {
        if (text[begin] == '{') {
            begin = std::min(text.find('}', begin), text.size());
            continue;
        }
        std::size_t end = begin;
        while (end < text.size() && is_of_word(text[end])) ++end;
        if (end == begin) {
            ++begin;
            continue;
        }
        const std::string word = text.substr(begin, end - begin);
        // "{x}.shape": a part of what has a mark. "%d", "2^56": no words.
        const bool is_part = begin > 0 && (text[begin - 1] == '.' || text[begin - 1] == mark_end);
        const bool is_format = begin > 0 && (text[begin - 1] == '%' || text[begin - 1] == '\\');
        const std::string next = text.substr(end, 4);
        const bool is_spoken_of = next.rfind(" = ", 0) == 0 || next.rfind(" is ", 0) == 0 || next[0] == '[' ||
                                  (next[0] == '.' && next.size() > 1 && is_of_word(next[1]));
        if (!is_part && !is_format && (kNames.count(word) || (kWords.count(word) && is_spoken_of))) return word;
        begin = end;
    }
    return "";
}

// ---- Sources --------------------------------------------------------------------------------------------------------

// From "(" at `begin` on to behind the ")" that belongs to it; strings are skipped.
std::size_t end_of_call(const std::string& text, std::size_t begin) {
    int depth = 0;
    bool in_string = false;
    for (std::size_t i = begin; i < text.size(); ++i) {
        if (in_string) {
            if (text[i] == '\\')
                ++i;
            else if (text[i] == '"')
                in_string = false;
        } else if (text[i] == '"') {
            in_string = true;
        } else if (text[i] == '(') {
            ++depth;
        } else if (text[i] == ')' && --depth == 0) {
            return i + 1;
        }
    }
    return text.size();
}

// The strings of a piece of source, joined where they stand side by side, as a compiler does.
std::vector<std::string> strings_of(const std::string& source) {
    std::vector<std::string> result;
    bool in_string = false, is_adjacent = false;
    for (std::size_t i = 0; i < source.size(); ++i) {
        const char c = source[i];
        if (in_string && c == '\\') {
            result.back() += source.substr(i++, 2);
        } else if (in_string && c != '"') {
            result.back() += c;
        } else if (in_string) {
            in_string = false;
            is_adjacent = true;
        } else if (c == '"') {
            if (!is_adjacent) result.emplace_back();
            in_string = true;
        } else if (!std::isspace(static_cast<unsigned char>(c))) {
            is_adjacent = false;
        }
    }
    return result;
}

// A string that is passed on its own, to be printed in a mark: "params.mask". `fail("{%s}.data is NULL", name)` marks
// it.
bool is_name_alone(const std::string& text) {
    const bool is_path = std::all_of(text.begin(), text.end(), [](char c) { return is_of_word(c) || c == '.'; });
    return is_path && !text.empty();
}

void check_source(const std::string& path) {
    std::ifstream file(path);
    const std::string source((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    // fail() itself, and the functions that hand it a part of the text.
    for (const std::string call : {"fail(", "require_same_shape(", "require_dtype(", "require_distinct("}) {
        for (std::size_t at = source.find(call); at != std::string::npos; at = source.find(call, at + 1)) {
            if (at > 0 && is_of_word(source[at - 1])) continue;
            const std::size_t open = at + call.size() - 1;
            for (const std::string& text : strings_of(source.substr(open, end_of_call(source, open) - open))) {
                const std::string name = call != "fail(" && is_name_alone(text) ? "" : unmarked_name(text, '}');
                // "%s" in front of what belongs to an argument: "{%s}.data".
                const bool is_bare = text.rfind("%s.", 0) == 0 || text.rfind("%s = ", 0) == 0 ||
                                     text.rfind("%s is ", 0) == 0 || text.find(" %s.") != std::string::npos;
                if (name.empty() && !is_bare) continue;
                std::fprintf(stderr, "%s: \"%s\": %s needs a mark, {%s}\n", path.c_str(), text.c_str(),
                             is_bare ? "%s" : name.c_str(), is_bare ? "%s" : name.c_str());
                ++failures;
            }
        }
    }
}

int check_sources(const char* folder) {
    int files = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
        const std::string path = entry.path().string();
        if (entry.path().extension() != ".cpp" && entry.path().extension() != ".h") continue;
        if (path.find("/python/") != std::string::npos) continue;  // a binding: it has its own names
        check_source(path);
        ++files;
    }
    if (files < 10) {
        std::fprintf(stderr, "%s: only %d source files\n", folder, files);
        ++failures;
    }
    return failures != 0;
}

// ---- Calls ----------------------------------------------------------------------------------------------------------

struct Call {
    fusedssim_params params = FUSEDSSIM_PARAMS_DEFAULT;
    fusedssim_ms_params ms = FUSEDSSIM_MS_PARAMS_DEFAULT;
    fusedssim_exec exec = FUSEDSSIM_EXEC_DEFAULT;
    std::vector<float> memory = std::vector<float>(6 * 256, 0.5F);
    std::vector<double> taps = std::vector<double>(11, 1.0 / 11);
    std::vector<unsigned char> mask_memory = std::vector<unsigned char>(256, 1);
    fusedssim_tensor x = image(0), y = image(1), grad_x = image(2), grad_y = image(3);
    fusedssim_tensor out = fusedssim_contiguous(&memory[1024], FUSEDSSIM_FLOAT32, 0, nullptr);
    fusedssim_tensor grad_out = fusedssim_contiguous(&memory[1025], FUSEDSSIM_FLOAT32, 0, nullptr);
    fusedssim_tensor mask = masks();

    fusedssim_tensor image(int i) {
        const int64_t shape[] = {1, 1, 16, 16};
        return fusedssim_contiguous(&memory[static_cast<std::size_t>(256 * i)], FUSEDSSIM_FLOAT32, 4, shape);
    }
    fusedssim_tensor masks() {
        const int64_t shape[] = {1, 1, 16, 16};
        return fusedssim_contiguous(mask_memory.data(), FUSEDSSIM_BOOL, 4, shape);
    }
    fusedssim_status forward(void* saved = nullptr, std::size_t saved_bytes = 0) {
        return fusedssim_forward(&params, &exec, &x, &y, &out, saved, saved_bytes);
    }
    fusedssim_status value_and_grad() {
        return fusedssim_value_and_grad(&params, &exec, &x, &y, &out, &grad_x, &grad_y);
    }
    fusedssim_status backward() {
        return fusedssim_backward(&params, &exec, &x, &y, nullptr, 0, &grad_out, &grad_x, &grad_y);
    }
    fusedssim_status scale(double factor = 1) { return fusedssim_scale(&exec, factor, &grad_out, &grad_x); }
    fusedssim_status ms_forward() { return fusedssim_ms_forward(&params, &ms, &exec, &x, &y, &out); }
};

// Every argument gets the name "@": what is left in the text as a name had no mark.
std::string text_with_names_replaced() {
    static const char* const names[] = {
        "x",     "@", "y",           "@", "out",       "@", "grad_x", "@", "grad_y", "@", "grad_out", "@",
        "saved", "@", "saved_bytes", "@", "device_id", "@", "op",     "@", "grads",  "@", "bytes",    "@",
        "info",  "@", "scale",       "@", "grad",      "@", "factor", "@", "exec",   "@", "params",   "@",
        "ms",    "@", "params.",     "@", "exec.",     "@", "ms.",    "@", nullptr};
    return fusedssim_last_error_as(names);
}

void check_fails(int line, const std::function<fusedssim_status(Call&)>& spoilt) {
    Call call;
    const fusedssim_status status = spoilt(call);
    const std::string plain = fusedssim_last_error(), text = text_with_names_replaced(),
                      name = unmarked_name(text, '@');
    if (status == FUSEDSSIM_OK) std::fprintf(stderr, "line %d: the call did not fail\n", line);
    if (!name.empty()) std::fprintf(stderr, "line %d: no mark at %s in \"%s\"\n", line, name.c_str(), plain.c_str());
    const bool has_mark = text.find('@') != std::string::npos;
    if (!has_mark) std::fprintf(stderr, "line %d: names no argument: \"%s\"\n", line, plain.c_str());
    const bool is_clean = plain.find('{') == std::string::npos && text.find('{') == std::string::npos;
    if (!is_clean) std::fprintf(stderr, "line %d: a mark is left in \"%s\"\n", line, plain.c_str());
    if (status == FUSEDSSIM_OK || !name.empty() || !has_mark || !is_clean) ++failures;
}
#define CHECK_FAILS(statements) check_fails(__LINE__, []([[maybe_unused]] Call& c) -> fusedssim_status { statements; })

int check_calls() {
    // structures
    CHECK_FAILS(return fusedssim_forward(nullptr, &c.exec, &c.x, &c.y, &c.out, nullptr, 0));
    CHECK_FAILS(return fusedssim_forward(&c.params, nullptr, &c.x, &c.y, &c.out, nullptr, 0));
    CHECK_FAILS(return fusedssim_ms_forward(&c.params, nullptr, &c.exec, &c.x, &c.y, &c.out));
    CHECK_FAILS(c.params.struct_size = 0; return c.forward());
    CHECK_FAILS(c.params.struct_size = 20; return c.forward());
    CHECK_FAILS(c.exec.struct_size = 1 << 20; return c.forward());
    CHECK_FAILS(return fusedssim_get_info(nullptr));
    CHECK_FAILS(return fusedssim_get_cuda_device_info(0, nullptr));
    // tensors
    CHECK_FAILS(c.x.reserved = 1; return c.forward());
    CHECK_FAILS(c.x.dtype = 99; return c.forward());
    CHECK_FAILS(c.x.dtype = FUSEDSSIM_BOOL; return c.forward());
    CHECK_FAILS(c.x.ndim = 9; return c.forward());
    CHECK_FAILS(c.x.ndim = 3; return c.forward());
    CHECK_FAILS(c.x.shape[1] = 0; return c.forward());
    CHECK_FAILS(c.x.shape[1] = c.y.shape[1] = int64_t{1} << 40; return c.forward());
    CHECK_FAILS(c.x.shape[0] = c.y.shape[0] = int64_t{1} << 60; return c.forward());
    CHECK_FAILS(c.x.data = nullptr; return c.forward());
    CHECK_FAILS(c.y.data = reinterpret_cast<char*>(c.y.data) + 1; return c.forward());
    CHECK_FAILS(c.y.dtype = FUSEDSSIM_FLOAT16; return c.forward());
    CHECK_FAILS(c.y.ndim = 5; c.y.shape[4] = 1; return c.forward());
    CHECK_FAILS(c.y.shape[3] = 15; return c.forward());
    CHECK_FAILS(c.out.ndim = 1; c.out.shape[0] = 1; return c.forward());
    CHECK_FAILS(c.out.dtype = FUSEDSSIM_FLOAT64; return c.forward());
    CHECK_FAILS(c.out.data = c.x.data; return c.forward());
    CHECK_FAILS(c.grad_x.stride[2] = 0; return c.value_and_grad());
    CHECK_FAILS(c.x.stride[2] = INT64_MIN; return c.forward());
    CHECK_FAILS(c.grad_x.dtype = FUSEDSSIM_FLOAT64; return c.value_and_grad());
    CHECK_FAILS(c.grad_x.data = c.y.data; return c.value_and_grad());
    CHECK_FAILS(c.grad_x.data = c.grad_y.data; return c.value_and_grad());
    CHECK_FAILS(c.grad_y.data = c.out.data; return c.value_and_grad());
    CHECK_FAILS(return fusedssim_value_and_grad(&c.params, &c.exec, &c.x, &c.y, &c.out, nullptr, nullptr));
    CHECK_FAILS(return fusedssim_ms_value_and_grad(&c.params, &c.ms, &c.exec, &c.x, &c.y, &c.out, nullptr, nullptr));
    CHECK_FAILS(c.grad_out.ndim = 1; c.grad_out.shape[0] = 3; return c.backward());
    CHECK_FAILS(return c.forward(&c.memory[1280], 64));
    CHECK_FAILS(return c.forward(nullptr, 64));
    // settings
    CHECK_FAILS(c.params.padding = 7; return c.forward());
    CHECK_FAILS(c.params.reduction = 7; return c.forward());
    CHECK_FAILS(c.params.window_size = 8; return c.forward());
    CHECK_FAILS(c.params.window_size = 17; c.params.padding = FUSEDSSIM_PADDING_VALID; return c.forward());
    CHECK_FAILS(c.params.sigma = 0; return c.forward());
    CHECK_FAILS(c.params.k1 = -1; return c.forward());
    CHECK_FAILS(c.params.k2 = NAN; return c.forward());
    CHECK_FAILS(c.params.data_range = 0; return c.forward());
    CHECK_FAILS(c.params.data_range = 1e30; return c.forward());
    CHECK_FAILS(c.params.grad_scale = NAN; return c.forward());
    CHECK_FAILS(c.params.objective = 7; return c.forward());
    CHECK_FAILS(c.params.mask_mode = 7; return c.forward());
    CHECK_FAILS(c.params.objective = FUSEDSSIM_OBJECTIVE_LOSS; c.params.lambda_dssim = 2; return c.forward());
    CHECK_FAILS(c.params.objective = FUSEDSSIM_OBJECTIVE_LOSS; c.params.padding = FUSEDSSIM_PADDING_VALID;
                c.params.reduction = FUSEDSSIM_REDUCTION_NONE; return c.forward());
    CHECK_FAILS(c.params.taps = c.taps.data(); c.taps[0] = -1; return c.forward());
    CHECK_FAILS(c.params.taps = c.taps.data(); c.taps[0] = 0; return c.forward());
    CHECK_FAILS(c.params.taps = c.taps.data(); c.taps[5] = 2; return c.forward());
    // masks
    CHECK_FAILS(c.params.mask = &c.mask; c.mask.dtype = FUSEDSSIM_FLOAT64; return c.forward());
    CHECK_FAILS(c.params.mask = &c.mask; c.mask.ndim = 3; return c.forward());
    CHECK_FAILS(c.params.mask = &c.mask; c.mask.shape[2] = 3; return c.forward());
    CHECK_FAILS(c.params.mask = &c.mask; c.mask.data = nullptr; return c.forward());
    CHECK_FAILS(c.params.mask = &c.mask; c.mask.data = c.out.data; return c.forward());
    CHECK_FAILS(c.params.mask = &c.mask; c.mask = c.image(4); c.memory[1024] = -1; c.out.data = &c.taps[0];
                return c.forward());
    // data ranges: c.grad_out has no axes
    CHECK_FAILS(c.params.data_ranges = &c.grad_out; c.grad_out.dtype = FUSEDSSIM_FLOAT64; return c.forward());
    CHECK_FAILS(c.params.data_ranges = &c.mask; c.mask.dtype = FUSEDSSIM_FLOAT32; return c.forward());
    CHECK_FAILS(c.params.data_ranges = &c.grad_out; c.grad_out.data = nullptr; return c.forward());
    CHECK_FAILS(c.params.data_ranges = &c.grad_out; c.grad_out.data = c.out.data; return c.forward());
    CHECK_FAILS(c.params.data_ranges = &c.grad_out; c.memory[0] = 0; c.grad_out.data = &c.memory[0];
                return c.forward());
    CHECK_FAILS(c.params.data_ranges = &c.grad_out; c.memory[0] = 1e30f; c.grad_out.data = &c.memory[0];
                return c.forward());
    // where
    CHECK_FAILS(c.exec.device = 9; return c.forward());
    CHECK_FAILS(c.exec.device_id = -1; return c.forward());
    CHECK_FAILS(c.exec.cpu_threads = -1; return c.forward());
    // sizes, scale, MS-SSIM
    CHECK_FAILS(return fusedssim_workspace_size(&c.params, &c.exec, 0, 0, &c.x, &c.y, nullptr));
    CHECK_FAILS(std::size_t bytes; return fusedssim_workspace_size(&c.params, &c.exec, 9, 0, &c.x, &c.y, &bytes));
    CHECK_FAILS(std::size_t bytes; return fusedssim_workspace_size(&c.params, &c.exec, 0, 8, &c.x, &c.y, &bytes));
    CHECK_FAILS(return fusedssim_saved_size(&c.params, &c.exec, 0, &c.x, &c.y, nullptr));
    CHECK_FAILS(return fusedssim_ms_workspace_size(&c.params, &c.ms, &c.exec, 0, &c.x, &c.y, nullptr));
    CHECK_FAILS(return c.scale(INFINITY));
    CHECK_FAILS(c.grad_out.ndim = 3; c.grad_out.shape[0] = c.grad_out.shape[1] = c.grad_out.shape[2] = 1;
                return c.scale());
    CHECK_FAILS(c.grad_out.ndim = 1; c.grad_out.shape[0] = 2; return c.scale());
    CHECK_FAILS(c.grad_out.dtype = FUSEDSSIM_FLOAT64; return c.scale());
    CHECK_FAILS(c.grad_x.ndim = 3; return c.scale());
    CHECK_FAILS(c.grad_x.data = c.grad_out.data; return c.scale());
    CHECK_FAILS(c.ms.levels = 0; return c.ms_forward());
    CHECK_FAILS(c.ms.weights[1] = -1; return c.ms_forward());
    CHECK_FAILS(c.params.reduction = FUSEDSSIM_REDUCTION_NONE; return c.ms_forward());
    CHECK_FAILS(c.params.objective = FUSEDSSIM_OBJECTIVE_LOSS; return c.ms_forward());
    CHECK_FAILS(c.params.mask = &c.mask; return c.ms_forward());
    CHECK_FAILS(c.params.padding = FUSEDSSIM_PADDING_VALID; return c.ms_forward());
    return failures != 0;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc == 3 && std::strcmp(argv[1], "sources") == 0) return check_sources(argv[2]);
    if (argc == 2 && std::strcmp(argv[1], "calls") == 0) return check_calls();
    std::fprintf(stderr, "error_marks_test sources <folder> | calls\n");
    return 2;
}
