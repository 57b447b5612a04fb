# SPDX-License-Identifier: MIT
"""Two films, frame by frame: as many results as frames, and never more than a few frames in memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import click

from fused_ssim.cli.common import Failure
from fused_ssim.cli.files.films import frames
from fused_ssim.cli.results import PairResult
from fused_ssim.cli.scoring import pair_of, score_pictures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fused_ssim.cli.files.films import Frame
    from fused_ssim.cli.results import Settings
    from fused_ssim.cli.scoring import Mask


@dataclass
class Films:
    """Two films. `tasks()` decodes both at once; what is wrong with either at its end stands in `problems`."""

    first: Path
    second: Path
    settings: Settings
    mask: Mask | None = None
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def tasks(self) -> Iterator[Callable[[], PairResult]]:
        """What computes the result of each pair of frames."""
        sides = [frames(path, self.settings.luma, self.notes) for path in (self.first, self.second)]
        count, apart = 0, False
        while True:
            pair = [self._next(side) for side in sides]
            a, b = pair
            if a is None or b is None:
                break
            if not count:  # what forbids to compare the first frames forbids all others
                pair_of(a.picture, b.picture, self.settings, self.mask, [])
            if not apart and _apart(a, b):
                apart = True
                self.notes.append(
                    "the frames of the films are shown at different times; they are paired by their number"
                )
            yield partial(_score, str(self.first), str(self.second), a, b, self.settings, self.mask)
            count += 1
        if not self.problems and (a is None) != (b is None):
            shorter, longer = (self.first, self.second) if a is None else (self.second, self.first)
            self.problems.append(
                f"{click.format_filename(shorter)} has {count} frames and {click.format_filename(longer)} has more: "
                f"only the first {count} are compared"
            )
        if not count and not self.problems:
            self.problems.append("no frame could be compared")

    def _next(self, side: Iterator[Frame]) -> Frame | None:
        try:
            return next(side, None)
        except Failure as failure:
            self.problems.append(failure.message)
            return None


def _apart(a: Frame, b: Frame) -> bool:
    return a.time is not None and b.time is not None and abs(a.time - b.time) > 1e-3


def _score(first: str, second: str, a: Frame, b: Frame, settings: Settings, mask: Mask | None) -> PairResult:
    name = f"frame {a.index}" + (f" ({a.time:.3f} s)" if a.time is not None else "")
    result = PairResult(name, first, second, frame=a.index, time=a.time)
    try:
        return score_pictures(result, a.picture, b.picture, settings, mask)
    except Failure as failure:
        return replace(result, error=failure.message)
