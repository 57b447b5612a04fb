# SPDX-License-Identifier: MIT
"""The `fused-ssim` command: compare images, volumes, films and folders, run a demonstration, describe the installation.

Only click is imported here. A command imports the rest when it runs: torch, and the packages that read files and draw
pictures (the extras `fused-ssim[cli]` and `fused-ssim[demo]`). So `fused-ssim info` always works.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Any

import click

import fused_ssim
from fused_ssim.cli.bench.command import bench_command
from fused_ssim.cli.compare import compare_command
from fused_ssim.cli.demo import demo_command
from fused_ssim.cli.info import info_command


class _Group(click.Group):
    """Commands whose output may have nowhere to go: a full disk behind stdout is an error of one line, too."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        # A redirected output has few letters on Windows, and the name of a file may have any.
        if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.encoding.lower().startswith("utf"):
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            name = "the output" if error.filename is None else click.format_filename(error.filename)
            click.echo(f"Error: {name} cannot be written: {error.strerror or error}", err=True)
            # Python flushes stdout once more at its end, which would fail again and change the exit status.
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, sys.stdout.fileno())
            sys.exit(1)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(fused_ssim.__version__, prog_name="fused-ssim", message="%(prog)s %(version)s")
def main() -> None:
    """Structural similarity (SSIM) of images and volumes, on the CPU and on CUDA.

    \b
    Examples:
      fused-ssim compare reference.png render.png
      fused-ssim compare scan.nii.gz denoised.nii.gz --map map.png
      fused-ssim compare truth/ renders/ --csv scores.csv
      fused-ssim demo
      fused-ssim info
    """


main.add_command(bench_command)
main.add_command(compare_command)
main.add_command(demo_command)
main.add_command(info_command)
