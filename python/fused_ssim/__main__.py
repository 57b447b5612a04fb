# SPDX-License-Identifier: MIT
"""`python -m fused_ssim` is the `fused-ssim` command; its options here tell C and C++ builds where the library is."""

from __future__ import annotations

import sys

from fused_ssim._base.info import install_dir

# What is asked for, and where it is below the package: each prints one path, for use in a shell.
FOLDERS = {
    "--cmake-dir": "lib/cmake/FusedSSIM",
    "--include-dir": "include",
    "--lib-dir": "lib",
    "--pkgconfig-dir": "lib/pkgconfig",
    "--prefix": "",
}


def main() -> None:
    """Prints the folders that are asked for, or runs the command."""
    arguments = sys.argv[1:]
    if arguments and all(argument in FOLDERS for argument in arguments):
        for argument in arguments:
            print(install_dir() / FOLDERS[argument])
        return
    from fused_ssim.cli import main as command

    command()


if __name__ == "__main__":
    main()
