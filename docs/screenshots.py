# SPDX-License-Identifier: MIT
"""Makes the screenshots of the report and of the site in docs/images. Needs Playwright and an installed Chromium.

python docs/screenshots.py [FOLDER_OF_THE_BUILT_SITE]

The renderings are parts of photographs of scikit-image with noise, blur or a spot; the scan is that of nibabel.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from scipy.ndimage import gaussian_filter
from skimage import data

from fused_ssim.cli.batch import default_workers, in_order
from fused_ssim.cli.recovery import load_volume
from fused_ssim.cli.report import write_report
from fused_ssim.cli.results import PairResult, Settings, versions
from fused_ssim.cli.scoring import score_files

IMAGES = Path(__file__).parent / "images"
SIZE = {"width": 1300, "height": 820}


def renderings(folder: Path, count: int, height: int, width: int) -> list[str]:
    """Writes `count` pairs into truth/ and renders/; gives their names."""
    random = np.random.default_rng(0)
    sources = [data.chelsea(), data.astronaut(), data.coffee(), data.rocket()]
    names = []
    for side in ("truth", "renders"):
        (folder / side).mkdir(parents=True)
    for number in range(count):
        source = sources[number % len(sources)]
        room = zip(source.shape, (height, width), strict=False)
        top, left = (random.integers(0, have - want + 1) for have, want in room)
        truth = source[top : top + height, left : left + width]
        render = gaussian_filter(truth.astype(float), (*[random.gamma(1.2, 0.35)] * 2, 0))
        render += random.normal(0, random.gamma(1.5, 2.0), truth.shape)
        if number % 17 == 5:  # a floater
            y, x = np.mgrid[:height, :width]
            spot = np.exp(-((y - random.integers(height)) ** 2 + (x - random.integers(width)) ** 2) / 900)[..., None]
            render += 0.9 * spot * (random.uniform(60, 255, 3) - render)
        names.append(f"view_{number:03d}.png")
        for side, picture in (("truth", truth), ("renders", np.clip(np.round(render), 0, 255).astype(np.uint8))):
            Image.fromarray(picture).save(folder / side / names[-1])
    return names


def scan(folder: Path) -> str:
    """Writes a scan, and a smoother one in which a block is lost."""
    volume, spacing = load_volume()
    first = volume[0].numpy()
    second = gaussian_filter(first, 0.6)
    second[20:34, 52:66, 8:15] *= 0.3
    for side, voxels in (("truth", first), ("renders", second)):
        (folder / side).mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(voxels.astype(np.float32), np.diag([*spacing, 1.0])), folder / side / "scan.nii.gz")
    return "scan.nii.gz"


def reported(folder: Path, names: list[str]) -> Path:
    """The report of the pairs of a folder."""
    settings = Settings(versions=versions())

    def result(name: str) -> PairResult:
        return score_files(name, Path("truth") / name, Path("renders") / name, settings)

    os.chdir(folder)  # short paths on the page
    results = list(in_order(((lambda name=name: result(name)) for name in names), default_workers()))
    return write_report(folder / "report", results, settings, "truth and renders")


def shoot(page: Page, name: str) -> None:
    """A screenshot as a small WebP."""
    page.wait_for_timeout(500)
    Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(IMAGES / f"{name}.webp", quality=85, method=6)
    print(IMAGES / f"{name}.webp")


def main() -> None:
    """All screenshots; that of the site if its folder is given."""
    sites = [Path(argument).resolve() for argument in sys.argv[1:]]
    found = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as driver, TemporaryDirectory() as folder:
        browser = driver.chromium.launch(executable_path=found, args=arguments)
        few = Path(folder) / "few"
        page = browser.new_page(viewport=SIZE)
        page.goto(reported(few, renderings(few, 40, 300, 400)).as_uri())
        shoot(page, "report-light")
        page.click("#open-worst")
        page.wait_for_selector("#viewer[data-shown]")
        shoot(page, "report-viewer")

        volume = Path(folder) / "volume"
        page = browser.new_page(viewport=SIZE, color_scheme="dark")
        page.goto(reported(volume, [scan(volume)]).as_uri())
        page.click("#open-worst")
        page.wait_for_selector("#viewer[data-shown]")
        shoot(page, "report-volume")

        many = Path(folder) / "many"
        page = browser.new_page(viewport=SIZE, color_scheme="dark")
        page.goto(reported(many, renderings(many, 500, 200, 280)).as_uri())
        shoot(page, "report-dark")

        for site in sites:
            page = browser.new_page(viewport=SIZE)
            page.goto((site / "index.html").as_uri())
            shoot(page, "site")


if __name__ == "__main__":
    main()
