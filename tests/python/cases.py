# SPDX-License-Identifier: MIT
"""Random calls, for hypothesis (tests/python/test_properties.py) and for runs by the clock (tests/fuzz).

A case is drawn from an object with three methods, so that hypothesis can shrink it and a plain random generator can
make millions: `integer(low, high)`, `pick(sequence)` and `chance(percent)`, whose smallest outcomes are the plain ones.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import bounds
import oracle
import torch
from torch import Tensor

import fused_ssim

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

FLOAT_DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
REDUCTIONS = ["mean", "none", "sum", "image", "channel"]
INTEGERS = [torch.uint8, torch.uint16, torch.int16]
PADDINGS = ["same", "valid", "reflect", "symmetric", "replicate"]
IMAGES = ["random", "related", "near", "smooth", "bright", "flat", "signed", "offset", "bytes", "large"]


class Choices(Protocol):
    def integer(self, low: int, high: int) -> int: ...
    def pick(self, values: Sequence[T]) -> T: ...
    def chance(self, percent: int) -> bool: ...


class RandomChoices:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def integer(self, low: int, high: int) -> int:
        return self._random.randint(low, high)

    def pick(self, values: Sequence[T]) -> T:
        return self._random.choice(values)

    def chance(self, percent: int) -> bool:
        return self._random.random() * 100 < percent


@dataclass
class Case:
    shape: tuple[int, ...]
    dtype: torch.dtype
    kind: str
    seed: int
    layouts: tuple[str, str]
    padding: str = "same"
    settings: dict[str, Any] = field(default_factory=dict)  # window_size, sigma, taps, data_range, K, ...
    integers: tuple[torch.dtype | None, torch.dtype | None] = (None, None)  # of the images; None: floats of `dtype`
    reduction: str = "mean"
    lambda_dssim: float | None = None
    mask_axes: tuple[bool, ...] | None = None  # for each axis of the mask: its size, or 1
    mask_kind: str = "bool"
    mask_mode: str = "weight"
    call: str = "function"
    grads: str = "xy"

    # ---- Its arguments

    def images(self, device: str = "cpu") -> tuple[Tensor, Tensor]:
        images = []
        both = zip(make_images(self.kind, self.shape, self.seed), self.integers, self.scales(), strict=True)
        for image, integer, scale in both:
            if integer is None:
                images.append(image.to(self.dtype))
            else:
                limits = torch.iinfo(integer)
                images.append((image / scale).round().clamp(limits.min, limits.max).to(integer))
        x, y = (laid_out(image, layout, device) for image, layout in zip(images, self.layouts, strict=True))
        return x, y

    def scales(self) -> tuple[float, float]:
        """What 1 stands for in each image. Powers of two, which the arithmetic multiplies by without an error."""
        if self.kind in ("bytes", "offset", "large"):
            return 1.0, 1.0
        usual = {torch.uint8: 2.0**-8, torch.uint16: 2.0**-16, torch.int16: 2.0**-15}
        first, second = (1.0 if integer is None else usual[integer] for integer in self.integers)
        return first, second

    def mask(self, device: str = "cpu") -> Tensor | None:
        if self.mask_axes is None:
            return None
        sizes = self.shape[len(self.shape) - len(self.mask_axes) :]
        shape = [size if whole else 1 for size, whole in zip(sizes, self.mask_axes, strict=True)]
        generator = torch.Generator().manual_seed(self.seed + 1)
        values = torch.rand(shape, generator=generator, dtype=torch.float64)
        if self.mask_kind == "bool":
            mask = values > 0.4
        else:
            dtype = self.arithmetic
            # Weights with holes, of very different sizes.
            mask = torch.where(values < 0.3, 0.0, values**4).to(dtype)
        return mask.to(device)

    def upstream(self, out: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed + 2)
        values = torch.randint(-8, 9, out.shape, generator=generator).double() / 4
        return torch.where(values == 0, 1.0, values)

    @property
    def arithmetic(self) -> torch.dtype:
        return torch.float64 if self.dtype == torch.float64 else torch.float32


# ---- Drawing ---------------------------------------------------------------------------------------------------------


def draw_case(choices: Choices, *, largest: int = 6000) -> Case:
    dims = choices.pick([2, 3])
    window_size = choices.pick([11, 3, 5, 7, 1, 9, 15, 33])
    padding = choices.pick(PADDINGS)
    if dims == 3 and window_size > 11 and padding == "valid":
        padding = "same"
    shape = _draw_shape(choices, dims, window_size if padding == "valid" else 1, largest)
    case = Case(
        shape=shape,
        dtype=choices.pick(FLOAT_DTYPES),
        kind=choices.pick(IMAGES),
        seed=choices.integer(0, 2**16),
        layouts=(choices.pick(LAYOUTS), choices.pick(LAYOUTS)),
        padding=padding,
    )
    case.settings = {
        "window_size": window_size,
        "sigma": choices.pick([1.5, 0.8, 0.25, 3.0, 40.0]),
        "data_range": _data_range(case, choices),
        "K": choices.pick([(0.01, 0.03), (0.05, 0.1), (0.001, 0.3)]),
    }
    if choices.chance(30):
        # None of the axes has more taps than the images of padding "valid" are long.
        case.settings["window_size"] = tuple(min(choices.pick([5, 1, 3, 7, 11]), window_size) for _ in range(dims))
        case.settings["sigma"] = tuple(choices.pick([1.5, 0.6, 3.0]) for _ in range(dims))
    if choices.chance(15):
        case.settings["taps"] = "uniform"
    case.reduction = choices.pick(REDUCTIONS)
    if choices.chance(40):
        case.lambda_dssim = choices.pick([0.2, 0.0, 1.0, 0.625])
        if padding == "valid" and case.reduction == "none":
            case.lambda_dssim = 1.0
    if choices.chance(40):
        # As many axes as the images, or the spatial ones alone. Between those, an axis for images can be taken for one
        # for channels.
        axes = choices.pick([len(shape), dims])
        case.mask_axes = tuple(not choices.chance(30) for _ in range(axes))
        case.mask_kind = choices.pick(["bool", "float"])
        case.mask_mode = choices.pick(["weight", "normalized"])
    if case.mask_mode == "weight" and largest_window(case) > 1 and choices.chance(20):
        case.settings["sample_covariance"] = True
    calls = ["function", "value_and_grad", "module"] if case.lambda_dssim is None else ["function", "module"]
    case.call = choices.pick(calls)
    case.grads = choices.pick(["xy", "x", "y"])
    if choices.chance(25):
        draw_integers(case, choices)
    return case


def without_integers(case: Case) -> None:
    """Makes the images of the case floats."""
    case.integers = (None, None)
    case.settings.pop("integer_scale", None)
    case.grads = case.grads or "xy"


def windows(case: Case) -> oracle.Windows:
    settings = (case.settings.get(name) for name in ("window_size", "sigma", "taps"))
    return oracle.windows_of(len(case.shape) - 2, *settings)


def largest_window(case: Case) -> int:
    size = case.settings["window_size"]
    return max(size) if isinstance(size, tuple) else size


def draw_integers(case: Case, choices: Choices) -> None:
    """Makes images of the case integers: one of them, or both, which have no gradient."""
    which = choices.pick(["y", "x", "xy"])
    case.integers = tuple(choices.pick(INTEGERS) if name in which else None for name in "xy")  # type: ignore[assignment]
    case.settings["integer_scale"] = case.scales()
    case.grads = "".join(name for name in "xy" if name not in which)
    if not case.grads:
        case.dtype = torch.float32  # the arithmetic of integers
        case.call = "function"


def _draw_shape(choices: Choices, dims: int, least: int, largest: int) -> tuple[int, ...]:
    sides = [least + choices.integer(0, 20 if dims == 2 else 8) for _ in range(dims)]
    # Some rows are longer than a vector, a tile or a strip of any kernel.
    if choices.chance(10):
        sides[-1] = least + choices.integer(60, 300)
        sides[0] = least + choices.integer(0, 3)
        if dims == 3:
            sides[1] = least + choices.integer(0, 3)
    elements = 1
    for side in sides:
        elements *= side
    images = choices.integer(1, 3)
    channels = choices.pick([1, 2, 3, 4, 17])
    images = images if images * elements <= largest else 1
    channels = channels if channels * images * elements <= largest else 1
    return (images, channels, *sides)


def _data_range(case: Case, choices: Choices) -> float:
    usual = {"bytes": 255.0, "offset": 6.0, "large": 3e4}.get(case.kind, 1.0)
    return usual * choices.pick([1.0, 1.0, 2.0])


def make_images(kind: str, shape: Sequence[int], seed: int) -> tuple[Tensor, Tensor]:
    """Two images in float64, of any of the kinds that condition SSIM differently."""
    generator = torch.Generator().manual_seed(seed)
    shape = tuple(shape)

    def uniform() -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    x, other = uniform(), uniform()
    if kind == "random":
        y = other
    elif kind == "related":
        y = 0.7 * x + 0.3 * other
    elif kind == "near":
        y = x + 1e-3 * (other - 0.5)
    elif kind == "smooth":
        t = torch.linspace(0, 6, shape[-1], dtype=torch.float64)
        x = (0.5 + 0.4 * torch.sin(t)).expand(shape) + 1e-3 * x
        y = x + 1e-2 * other
    elif kind == "bright":
        x, y = 0.95 + 1e-2 * x, 0.95 + 1e-2 * other
    elif kind == "flat":
        x, y = torch.full(shape, float(x.flatten()[0])), torch.full(shape, float(other.flatten()[0]))
        x, y = x.double(), y.double()
    elif kind == "signed":
        x, y = 2 * x - 1, 2 * other - 1
    elif kind == "offset":  # far from 0 for its range
        x, y = 200 + 6 * x, 200 + 6 * other
    elif kind == "bytes":
        x, y = (255 * x).round(), (255 * (0.8 * x + 0.2 * other)).round()
    elif kind == "large":
        x, y = 3e4 * x, 3e4 * (0.5 * x + 0.5 * other)
    else:
        raise ValueError(kind)
    return x, y


# ---- Layouts ---------------------------------------------------------------------------------------------------------

LAYOUTS = ["contiguous", "channels_last", "transposed", "sliced", "cropped", "flipped_axes", "expanded_batch", "offset"]


def laid_out(image: Tensor, layout: str, device: str = "cpu") -> Tensor:
    """The same values in another layout; "expanded_batch" repeats the first image."""
    image = image.to(device)
    nothing = torch.nan if image.is_floating_point() else 77  # beside the image
    if layout == "channels_last":
        return image.contiguous(
            memory_format=torch.channels_last if image.dim() == 4 else torch.channels_last_3d  # type: ignore[call-overload]
        )
    if layout == "transposed":
        return image.transpose(-1, -2).contiguous().transpose(-1, -2)
    if layout == "sliced":
        wide = image.new_full((*image.shape[:-2], 2 * image.shape[-2], 3 * image.shape[-1]), nothing)
        view = wide[..., ::2, 1::3]
        return view.copy_(image)
    if layout == "cropped":
        wide = image.new_full([size + 3 for size in image.shape], nothing)
        view = wide[tuple(slice(1, 1 + size) for size in image.shape)]
        return view.copy_(image)
    if layout == "flipped_axes":  # all axes in reverse order
        axes = list(range(image.dim()))[::-1]
        return image.permute(axes).contiguous().permute(axes)
    if layout == "expanded_batch":
        return image[:1].clone().expand(image.shape)
    if layout == "offset":  # aligned to an element, not to more
        memory = image.new_full((image.numel() + 1,), nothing)
        view = memory[1:].view(image.shape)
        return view.copy_(image)
    return image.contiguous()


# ---- Running ---------------------------------------------------------------------------------------------------------


def run(case: Case, x: Tensor, y: Tensor, mask: Tensor | None) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """The value, the gradients of the images that the case asks for, and the upstream gradient that they are for."""
    arguments = {**case.settings, "reduction": case.reduction, "mask_mode": case.mask_mode}
    if case.call == "value_and_grad":
        argnums = tuple("xy".index(name) for name in case.grads)
        value, grads = fused_ssim.value_and_grad(x, y, case.padding, argnums=argnums, mask=mask, **arguments)
        return value, dict(zip(case.grads, grads, strict=True)), torch.ones(value.shape, dtype=torch.float64)
    images = {"x": x.detach(), "y": y.detach()}
    for name in case.grads:
        images[name].requires_grad_()
    x, y = images["x"], images["y"]
    if case.lambda_dssim is None and case.call == "module":
        loss = fused_ssim.SSIMLoss(case.padding, **arguments)(x, y, mask)
        value = loss
    elif case.lambda_dssim is None:
        function = fused_ssim.fused_ssim3d if x.dim() == 5 else fused_ssim.fused_ssim2d
        value = function(x, y, case.padding, mask=mask, **arguments)
    elif case.call == "module":
        value = fused_ssim.PhotometricLoss(case.lambda_dssim, case.padding, **arguments)(x, y, mask)
    else:
        value = fused_ssim.photometric_loss(x, y, case.lambda_dssim, case.padding, mask=mask, **arguments)
    upstream = case.upstream(value)
    if not case.grads:
        return value, {}, upstream
    grads = torch.autograd.grad(value, [images[name] for name in case.grads], upstream.to(value))
    return value.detach(), dict(zip(case.grads, grads, strict=True)), upstream


@dataclass
class Worst:
    """The largest error relative to its bound, of the value and of the gradients; a fault if it is above 1."""

    value: float = 0.0
    gradient: float = 0.0
    reason: str = ""

    def update(self, other: Worst) -> None:
        self.value, self.gradient = max(self.value, other.value), max(self.gradient, other.gradient)

    @property
    def largest(self) -> float:
        return max(self.value, self.gradient)


def ratio(actual: Tensor, expected: Tensor, second: Tensor, error: Tensor) -> tuple[float, str]:
    """max |actual - expected| / bound. `second` is the other computation: where the two differ, that is allowed too."""
    actual = actual.detach().double().cpu()
    if actual.shape != expected.shape:
        return float("inf"), f"shape {tuple(actual.shape)}, expected {tuple(expected.shape)}"
    allowed = error + 2 * (expected - second).abs()
    known = expected.isfinite() & second.isfinite() & allowed.isfinite()
    if bool(known.any()):
        differ, size = float((expected - second).abs()[known].max()), float(expected.abs()[known].max())
        # Far from 0, what the variance of float64 loses may be 1e-6 of C2.
        assert differ <= 1e-5 * size + 1e-12, "the two references differ: one of them is wrong"
    # A mean over a mask of zeros: NaN on both sides.
    if bool((actual.isnan() != expected.isnan())[known | expected.isnan()].any()):
        return float("inf"), "NaN in one of the two"
    # 16-bit results may be beyond the largest number.
    known &= ~(actual.isinf() & (expected.abs() + allowed > 6e4))
    off = (actual - expected).abs()[known]
    if not off.numel():
        return 0.0, ""
    ratios = torch.where(off == 0, 0.0, off / allowed[known])
    at = int(ratios.argmax())
    return float(ratios[at]), (
        f"{float(actual[known][at])!r} for {float(expected[known][at])!r}, off by {float(off[at]):.3g}, "
        f"bound {float(allowed[known][at]):.3g}"
    )


def check(case: Case, device: str = "cpu") -> Worst:
    """Runs a case and compares it with the oracle."""
    x, y = case.images(device)
    mask = case.mask(device)
    value, grads, upstream = run(case, x, y, mask)
    return compare(case, x, y, mask, value, grads, upstream)


def compare(
    case: Case, x: Tensor, y: Tensor, mask: Tensor | None, value: Tensor, grads: dict[str, Tensor], upstream: Tensor
) -> Worst:
    """How far results are from the oracle, relative to what the case allows."""
    exact_x, exact_y = (
        image.detach().cpu().double().contiguous() * scale for image, scale in zip((x, y), case.scales(), strict=True)
    )
    # SSIMLoss is the loss with lambda 1.
    lambda_dssim = 1.0 if case.lambda_dssim is None and case.call == "module" else case.lambda_dssim
    arguments: dict[str, Any] = {
        **{key: value for key, value in case.settings.items() if key != "integer_scale"},
        "reduction": case.reduction,
        "mask": None if mask is None else mask.cpu().double(),
        "mask_mode": case.mask_mode,
        "lambda_dssim": lambda_dssim,
    }
    expected, *expected_grads = oracle.objective_and_grads(
        exact_x, exact_y, case.padding, upstream=upstream, **arguments
    )
    limits = bounds.objective(exact_x, exact_y, case.dtype, case.padding, upstream, **arguments)
    assert value.dtype == case.arithmetic
    worst = Worst()
    worst.value, reason = ratio(value, expected, limits.values.value, limits.value)
    worst.reason = f"value: {reason}" if worst.value > 1 else ""
    for name, want, second, error in zip(
        "xy", expected_grads, limits.grads, (limits.grad_x, limits.grad_y), strict=True
    ):
        if name not in grads:
            continue
        assert grads[name].dtype == case.dtype
        part, reason = ratio(grads[name], want, second.value.nan_to_num(nan=0.0), error.nan_to_num(nan=0.0))
        worst.gradient = max(worst.gradient, part)
        if part > 1:
            worst.reason += f" grad_{name}: {reason}"
    return worst


def describe(case: Case) -> dict[str, Any]:
    return {
        f.name: str(value) if isinstance(value := getattr(case, f.name), torch.dtype) else value for f in fields(case)
    }
