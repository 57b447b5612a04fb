#!/bin/sh
# SPDX-License-Identifier: MIT
# The binary interface of libfusedssim against the one that is written down in tests/abi: functions with their symbol
# versions, and the layout of every structure of fusedssim.h. docs/abi.md says what may change.
#
#   tools/abi.sh check  build/ci/libfusedssim.so     fails, and shows what differs
#   tools/abi.sh update build/ci/libfusedssim.so     writes the interface down anew
#
# The library must have debug information (the preset `ci` gives it). The comparison is libabigail's; where it is not
# installed, Debian's packages of it are unpacked below build/, without installing anything.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
baseline=$root/tests/abi/$(uname -m)-linux.abi
command=${1:-} library=${2:-}

if ! command -v abidiff >/dev/null || ! command -v abidw >/dev/null; then
    tools=$root/build/abigail
    if [ ! -x "$tools/usr/bin/abidiff" ]; then
        mkdir -p "$tools"
        packages="abigail-tools libabigail0"
        # shellcheck disable=SC2086 # two words
        (cd "$tools" && { apt-get download $packages || { apt-get update && apt-get download $packages; }; } &&
            for package in ./*.deb; do dpkg -x "$package" .; done) >"$tools/log" 2>&1 || {
            cat "$tools/log" >&2
            echo "tools/abi.sh needs abidiff and abidw: apt install abigail-tools, or dnf install libabigail" >&2
            exit 2
        }
    fi
    PATH=$tools/usr/bin:$PATH
    LD_LIBRARY_PATH=$(echo "$tools"/usr/lib/*-linux-gnu)${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    export LD_LIBRARY_PATH
fi

# What a compiler or a folder's name would change is left out.
interface=$(mktemp)
trap 'rm -f "$interface"' EXIT
abidw --headers-dir "$root/include" --drop-private-types --exported-interfaces-only --no-comp-dir-path \
    --no-corpus-path --no-elf-needed --no-show-locs --type-id-style hash "$library" |
    sed "s|path='$root/|path='|" >"$interface"
# Without debug information no structure is seen, and nothing would ever differ.
grep -q "class-decl name='fusedssim_params'" "$interface" || {
    echo "$library has no debug information: build it with -g" >&2
    exit 2
}

case $command in
check)
    if ! abidiff --harmless "$baseline" "$interface"; then
        echo "The binary interface differs from $baseline." >&2
        echo "Does docs/abi.md allow the change, and is it meant? Then: tools/abi.sh update $library" >&2
        exit 1
    fi
    echo "The binary interface is that of $baseline"
    ;;
update) cat "$interface" >"$baseline" ;;
*)
    sed -n '3,11s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
