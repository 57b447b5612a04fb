# SPDX-License-Identifier: MIT
"""What the documentation says is so: its code runs, its conventions hold, its pictures are drawn, its notebooks run."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_references import piq  # noqa: F401
from tolerances import KORNIA, MONAI_UNIFORM, PYTORCH_MSSIM_SAME_WINDOW, SCIKIT_IMAGE, TENSORFLOW

import fused_ssim

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
if not DOCS.is_dir():
    pytest.skip("not in a source distribution", allow_module_level=True)


def blocks(page: Path) -> list[str]:
    """The blocks of Python of a page."""
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def namespace() -> dict[str, object]:
    """What the pages take for granted."""
    torch.manual_seed(0)
    image, volume = (1, 3, 24, 26), (2, 1, 12, 13, 14)
    return {
        "prediction": torch.rand(image, requires_grad=True),
        "target": torch.rand(image),
        "rendered": torch.rand(24, 26, 3, requires_grad=True),
        "photograph": torch.rand(24, 26, 3),
        "valid": torch.rand(24, 26) > 0.3,
        "scan": 4095 * torch.rand(volume),
        "denoised": 4095 * torch.rand(volume),
        "body": torch.rand(volume[2:]) > 0.3,
    }


@pytest.mark.parametrize("name", ["index.md", "guides/splatting.md", "guides/volumes.md", "guides/moving.md"])
def test_code_of_the_page_runs(name: str) -> None:
    names = namespace()
    if name == "guides/volumes.md":
        names.update(prediction=torch.rand(2, 1, 12, 13, 14, requires_grad=True), target=torch.rand(2, 1, 12, 13, 14))
    found = blocks(DOCS / name)
    assert found
    for block in found:
        exec(compile(block, name, "exec"), names)
        loss = names.get("loss")
        assert loss is None or 0 < loss.item() < 2  # type: ignore[attr-defined]


def test_code_of_the_page_for_jax_runs() -> None:
    jax = pytest.importorskip("jax", minversion="0.6")
    image, batch = jax.numpy.full((1, 16, 18, 3), 0.5), jax.random.uniform(jax.random.key(0), (3, 16, 18, 3))
    names = {
        "render": lambda params: jax.nn.sigmoid(params),
        "params": image,
        "photograph": 0.9 * image,
        "images": batch,
        "references": 0.5 * batch,
    }
    for block in blocks(DOCS / "guides" / "jax.md"):
        exec(compile(block, "jax.md", "exec"), names)
    assert 0 < names["value"] < 1
    assert abs(names["close"] - names["value"]) < 0.01
    assert names["scores"].shape == (3,)
    assert names["gradients"].shape == batch.shape


CONVENTIONS = blocks(DOCS / "conventions.md")


# In float64; of others, what they agree to.
AGREEMENT = {
    "pytorch_msssim": PYTORCH_MSSIM_SAME_WINDOW,
    "monai": MONAI_UNIFORM,
    "kornia": KORNIA,
    "tensorflow": TENSORFLOW,
}


@pytest.mark.parametrize("number", range(len(CONVENTIONS)))
def test_conventions_agree_with_their_packages(number: int, request: pytest.FixtureRequest) -> None:
    block = CONVENTIONS[number]
    if "piq" in block:
        request.getfixturevalue("piq")
    packages = re.findall(r"^(?:import|from) (\w+)", block, re.MULTILINE)
    for package in packages:
        pytest.importorskip(package, minversion={"jax": "0.8"}.get(package))  # enable_x64
    names: dict[str, object] = dict(zip("xy", images_of_conventions(number), strict=True))
    exec(compile(block, "conventions.md", "exec"), names)
    if "theirs" in names:
        ours, theirs = (torch.as_tensor(names[name]).double() for name in ("ours", "theirs"))
        assert ours.shape == theirs.shape
        tolerance = next((AGREEMENT[package] for package in packages if package in AGREEMENT), SCIKIT_IMAGE)
        assert (ours - theirs).abs().max() < tolerance
    else:
        assert 0 < float(names["score"]) < 1  # type: ignore[arg-type]


def images_of_conventions(number: int, size: tuple[int, int] = (180, 190)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(number)
    y = torch.rand((2, 3, *size), generator=generator, dtype=torch.float64)
    return (y + 0.2 * torch.randn(y.shape, generator=generator, dtype=torch.float64)).clamp(0, 1), y


def as_wang(x: np.ndarray, y: np.ndarray) -> float:
    """SSIM as scikit-image has that of Wang et al."""
    metrics = pytest.importorskip("skimage.metrics")
    found = metrics.structural_similarity(
        x, y, data_range=255.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    return float(found)


@pytest.mark.parametrize("size", [(180, 190), (560, 700), (820, 700)])  # made smaller by 1, 2 and 3
def test_recipe_of_ssim_m_is_right(size: tuple[int, int]) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    (block,) = (block for block in CONVENTIONS if "def smaller" in block)
    x, y = images_of_conventions(1, size)
    names: dict[str, object] = {"x": x[:1], "y": y[:1]}
    exec(compile(block, "conventions.md", "exec"), names)
    factor = max(1, int(min(size) / 256 + 0.5))

    def smaller(image: torch.Tensor) -> np.ndarray:
        grey = 255 * image[0].mean(0).numpy()
        # scipy's box of an even size begins one pixel earlier than MATLAB's, and its "reflect" repeats the edge.
        box = ndimage.uniform_filter(grey, factor, mode="reflect", origin=-1 if factor % 2 == 0 else 0)
        return box[::factor, ::factor]

    expected = as_wang(smaller(x), smaller(y))
    assert abs(float(names["score"]) - expected) < SCIKIT_IMAGE  # type: ignore[arg-type]


def test_recipe_of_super_resolution_is_right() -> None:
    color = pytest.importorskip("skimage.color")
    (block,) = (block for block in CONVENTIONS if "scale = 4" in block)
    x, y = images_of_conventions(2)
    names: dict[str, object] = {"x": x[:1], "y": y[:1]}
    exec(compile(block, "conventions.md", "exec"), names)
    luma_x, luma_y = (color.rgb2ycbcr(image[0].numpy(), channel_axis=0)[0][4:-4, 4:-4] for image in (x, y))
    assert abs(float(names["score"]) - as_wang(luma_x, luma_y)) < SCIKIT_IMAGE  # type: ignore[arg-type]


def load(path: Path):
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(f"docs_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_page_of_the_c_interface_has_the_whole_header() -> None:
    header = (ROOT / "include" / "fusedssim" / "fusedssim.h").read_text(encoding="utf-8")
    page = load(DOCS / "site" / "header.py").page(header)
    declared = re.findall(r"^FUSEDSSIM_API [^;(]*?\b(fusedssim_\w+)\(", header, re.MULTILINE)
    declared += re.findall(r"^typedef (?:struct|u?int32_t) (fusedssim_\w+)", header, re.MULTILINE)
    assert len(declared) > 20
    for name in declared:
        assert f"### {name}\n" in page or f'id="{name.lower()}"' in page, name

    def words(text: str) -> set[str]:
        return set(re.findall(r"\w+", text.replace("\\", "")))

    left_out = {"SPDX", "License", "Identifier", "MIT", "C", "extern", "ifdef", "ifndef", "endif", "if", "elif", "else"}
    left_out |= {"dllexport", "dllimport", "visibility", "__attribute__", "__declspec", "__cplusplus", "constexpr"}
    left_out |= {"_WIN32", "FUSEDSSIM_BUILDING", "FUSEDSSIM_STATIC", "FUSEDSSIM_FUSEDSSIM_H", "defined"}
    assert words(header) - words(page) <= left_out


NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    pytest.importorskip("skimage")
    matplotlib.use("Agg")
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert len(cells) >= 4
    names: dict[str, object] = {"__name__": "notebook"}
    for cell in cells:
        assert cell["outputs"] == []  # the site has those of its own run
        exec(compile("".join(cell["source"]), path.name, "exec"), names)


def test_gallery_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("skimage")
    gallery = load(DOCS / "gallery.py")
    gallery.main(tmp_path)
    page = (DOCS / "gallery.md").read_text(encoding="utf-8")
    for name in gallery.PICTURES:
        assert (tmp_path / name).stat().st_size > 10_000
        assert (DOCS / "images" / name).exists()
        assert f"](images/{name})" in page
    # What the page says of the first picture: the same error, and SSIM tells them apart.
    clean = gallery.photograph()
    scores = {}
    for name, wrong in gallery.distorted().items():
        psnr = -10 * (wrong - clean).square().mean().log10().item()
        assert abs(psnr - gallery.PSNR) < 0.5, name
        scores[name] = fused_ssim.fused_ssim(wrong, clean, train=False).item()
    assert min(scores["brighter"], scores["more contrast"]) > 0.9
    assert max(scores["noise"], scores["blur"]) < 0.8


def test_pictures_of_pages_exist() -> None:
    for page in DOCS.rglob("*.md"):
        for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
