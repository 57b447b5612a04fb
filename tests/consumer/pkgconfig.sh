#!/bin/sh
# SPDX-License-Identifier: MIT
# A build without CMake: the two programs of this folder by pkg-config, compiled and run.
#   tests/consumer/pkgconfig.sh <folder with fusedssim.pc> <folder to build in>
set -eu
sources=$(dirname "$0")
mkdir -p "$2"
PKG_CONFIG_PATH=$1
export PKG_CONFIG_PATH
flags=$(pkg-config --cflags --libs fusedssim)
libdir=$(pkg-config --variable=libdir fusedssim)
# shellcheck disable=SC2086 # several words each
${CC:-cc} -std=c99 -Wall -Wextra -Werror "$sources/consumer.c" $flags -lm -o "$2/consumer_c"
# shellcheck disable=SC2086
${CXX:-c++} -std=c++17 -Wall -Wextra -Werror "$sources/consumer.cpp" $flags -o "$2/consumer_cpp"
LD_LIBRARY_PATH=$libdir "$2/consumer_c"
LD_LIBRARY_PATH=$libdir "$2/consumer_cpp"
