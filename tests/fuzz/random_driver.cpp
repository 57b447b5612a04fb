// SPDX-License-Identifier: MIT
//
// The fuzzing harness without a fuzzer: the same function on a random stream that is the same everywhere, for compilers
// that have no libFuzzer and for a short run at each change.
//
//     abi_random [--runs N] [--seed N] [--seconds S]   runs inputs, and prints what they came to
//     abi_random --corpus FOLDER [--runs N] writes inputs that differ in what they came to: seeds for a fuzzer
//     abi_random FILE... runs the inputs in these files: to see a fault again
//
// What stops the program leaves the input in ./fault-<number>.
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "input.h"
#include "outcome.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" __attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)());

namespace {

std::vector<std::uint8_t> current;
long long number = 0;

void write(const std::string& path, const std::vector<std::uint8_t>& input) {
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(input.data()), std::streamsize(input.size()));
}

void keep_current() {
    const std::string path = "fault-" + std::to_string(number);
    write(path, current);
    std::fprintf(stderr, "the input of run %lld is in %s\n", number, path.c_str());
}

std::vector<std::uint8_t> random_input(std::uint64_t seed) {
    fuzz::Random random(seed);
    // Short ones are plain after their end; in long ones every choice is made.
    std::vector<std::uint8_t> input(std::size_t(random.below(2) ? 30 + random.below(60) : 120 + random.below(200)));
    for (std::uint8_t& byte : input) byte = std::uint8_t(random.word());
    return input;
}

}  // namespace

int main(int argc, char** argv) {
    long long runs = 20000, seed = 0;
    double seconds = 0;
    std::string corpus;
    std::vector<std::string> files;
    for (int i = 1; i < argc; ++i) {
        const std::string name = argv[i];
        if (name.rfind("--", 0) != 0) {
            files.push_back(name);
            continue;
        }
        const char* const value = i + 1 < argc ? argv[++i] : "";
        if (name == "--runs")
            runs = std::atoll(value);
        else if (name == "--seed")
            seed = std::atoll(value);
        else if (name == "--seconds")
            seconds = std::atof(value);
        else if (name == "--corpus")
            corpus = value;
        else
            return std::fprintf(stderr, "unknown option %s\n", name.c_str()), 2;
    }
    if (__sanitizer_set_death_callback) __sanitizer_set_death_callback(keep_current);
    std::signal(SIGABRT, [](int) {
        keep_current();
        std::signal(SIGABRT, SIG_DFL);
        std::raise(SIGABRT);
    });
    for (const std::string& path : files) {
        std::ifstream file(path, std::ios::binary);
        current.assign(std::istreambuf_iterator<char>(file), {});
        LLVMFuzzerTestOneInput(current.data(), current.size());
        std::printf("%s: function %d, status %d\n", path.c_str(), fuzz::last_outcome.function,
                    fuzz::last_outcome.status);
    }
    if (!files.empty()) return 0;

    std::map<std::pair<int, fusedssim_status>, long long> counts;
    std::set<std::tuple<int, fusedssim_status, bool, int, bool>> kinds;
    const auto start = std::chrono::steady_clock::now();
    const auto elapsed = [&] {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    };
    for (; number < runs && (seconds <= 0 || elapsed() < seconds); ++number) {
        current = random_input(std::uint64_t(seed) << 40 | std::uint64_t(number));
        LLVMFuzzerTestOneInput(current.data(), current.size());
        const fuzz::Outcome& o = fuzz::last_outcome;
        ++counts[{o.function, o.status}];
        if (!corpus.empty() && kinds.insert({o.function, o.status, o.is_3d, o.dtype, o.spoiled > 0}).second)
            write(corpus + "/seed-" + std::to_string(number), current);
    }
    static const char* const kNames[] = {"forward",           "value_and_grad", "backward",       "ms_forward",
                                         "ms_value_and_grad", "scale",          "workspace_size", "ms_workspace_size",
                                         "saved_size",        "infos"};
    for (const auto& [key, count] : counts)
        std::printf("%-18s %-22s %9lld\n", kNames[key.first], fusedssim_status_string(key.second), count);
    std::printf("%lld inputs in %.1f s, nothing wrong\n", number, elapsed());
    return 0;
}
