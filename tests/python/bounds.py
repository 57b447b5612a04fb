# SPDX-License-Identifier: MIT
"""How far a result may be from the definition: a bound that follows from the case itself.

The tolerances of ``tolerances.py`` are for images without special structure. Generated cases have every structure, so
here the rounding errors of the algorithm are followed through it (running error analysis, as in N. J. Higham, "Accuracy
and Stability of Numerical Algorithms", 3.3). An :class:`Approx` is a number in float64 and a bound of its distance from
what arithmetic with unit roundoff ``unit`` gets:

- a sum or a product adds the errors of its operands, weighted by the other operand, and one rounding;
- a filter of w taps along n axes makes n (w + 2) roundings of terms whose magnitudes sum to G*|v|: products and sums of
  w terms in any order, and the rounding of the taps;
- in float32 the taps of a Gaussian are moved so that their sum is exactly 1. All moves along an axis together are less
  than two units of 1, so they change a result by less than that times the largest |v| in the window. This shows in the
  least taps of narrow windows: one of 1e-14 may become 0;
- a variance G*s^2 - mu^2 therefore has an error of about 3 n (w + 2) unit G*s^2, however small the variance is. Divided
  by D2 = var_s + var_d + 2 C2, that conditions a case: bright and flat images have large bounds, others do not;
- all of this is done with s - c and d - e, where the pivot (c, e) is a level of the plane: any number that its elements
  reach. It may be far from a window's own: what is filtered is then up to twice the largest |s| of the plane, and the
  mean of a dark window loses digits when the pivot is added again. A d that is small beside C2 has no pivot;
- variances are cut off at 0, so D2 is at least 2 C2, and b = var_d / D2 and t = mu_d^2 / D1 lie in [0, 1]. That limits
  every bound from above.

The bounds are strict, so a result beyond its bound is a fault and not bad luck. The price is that they are 10 to 100
times what one sees (`differential.py` reports how much of them is used).

``Approx.value`` is a second computation of the definition, in the sum/difference form. Where the oracle (classic form,
autograd) differs from it, the difference is the oracle's own rounding, and is added to the bound; it must be small.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import oracle
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

UNIT = {torch.float32: 2.0**-24, torch.float16: 2.0**-24, torch.bfloat16: 2.0**-24, torch.float64: 2.0**-53}
# The least normal number of the arithmetic: what is smaller may become 0, depending on the device.
TINY = {torch.float32: 2.0**-126, torch.float16: 2.0**-126, torch.bfloat16: 2.0**-126, torch.float64: 2.0**-1022}
# Rounding of a gradient that is stored with 16 bits: relative, and absolute near 0.
STORED = {torch.float16: (2.0**-11, 2.0**-25), torch.bfloat16: (2.0**-8, 2.0**-126)}
# Sums are made of blocks, so the length of a sum counts by its logarithm and by the length of a row of blocks; no sum
# has more than this many roundings on top of one another.
SUM = 96
# A reciprocal may have two units in the last place instead of half of one, as on GPUs.
RECIPROCAL = 4


@dataclass(frozen=True)
class Arithmetic:
    unit: float
    tiny: float

    def exact(self, value: Tensor) -> Approx:
        return Approx(value, torch.zeros_like(value), self)


@dataclass(frozen=True)
class Approx:
    value: Tensor
    error: Tensor
    arithmetic: Arithmetic

    def _with(self, value: Tensor, error: Tensor, roundings: float = 1) -> Approx:
        a = self.arithmetic
        return Approx(value, error + roundings * a.unit * (value.abs() + error) + a.tiny, a)

    def __add__(self, other: Approx) -> Approx:
        return self._with(self.value + other.value, self.error + other.error)

    def __sub__(self, other: Approx) -> Approx:
        return self._with(self.value - other.value, self.error + other.error)

    def __mul__(self, other: Approx | float) -> Approx:
        if not isinstance(other, Approx):
            return self._with(self.value * other, self.error * abs(other))
        a, b, da, db = self.value, other.value, self.error, other.error
        # An infinite error of a factor that is exactly 0 is none.
        error = _times(a.abs(), db) + _times(b.abs(), da) + _times(da, db)
        return self._with(a * b, error)

    def scaled(self, factor: Tensor) -> Approx:
        """Times weights of the caller, which are exact."""
        return self._with(self.value * factor, _times(self.error, factor.abs()))

    def filtered(self, window: Window, transposed: bool = False) -> Approx:
        magnitude = window.filter(self.value.abs() + _finite(self.error), transposed)
        error = window.filter(_finite(self.error), transposed)
        roundings = window.roundings
        if transposed and window.padding not in ("same", "valid"):
            # An element at an edge is seen from several positions, by sums of taps.
            roundings = 2 * roundings
        if self.arithmetic.unit > UNIT[torch.float64]:
            moved = 2 * len(window.taps) * self.arithmetic.unit * window.largest(self.value.abs())
            error = error + moved * (window.times_seen if transposed else 1)
        else:  # exp(-z^2 / 2) is off by the roundings of its argument, times the argument
            roundings += window.roundings_of_gaussian
        return self._with(window.filter(self.value, transposed), error + roundings * self.arithmetic.unit * magnitude)

    def worse(self, by: Tensor) -> Approx:
        return Approx(self.value, self.error + by, self.arithmetic)

    def limited(self, low: float, high: float) -> Approx:
        """For what the algorithm keeps between these."""
        value = self.value.clamp(low, high)
        return Approx(value, self.error.clamp(max=high - low), self.arithmetic)

    def positive(self) -> Approx:
        return Approx(self.value.clamp(min=0), self.error, self.arithmetic)

    def reciprocal(self, least: float) -> Approx:
        """Of a sum that is at least `least` in the arithmetic, too."""
        value, error = self.value, self.error
        floor = (value - error).clamp(min=least)
        spread = torch.where(floor > 0, error / (value * floor), torch.inf)
        if least > 0:
            spread = torch.minimum(spread, (1 / least - 1 / value).clamp(min=0) + 1 / value)
        return self._with(1 / value, spread, RECIPROCAL)


@dataclass(frozen=True)
class Window:
    """The windows of a case, and what they see beyond the border."""

    taps: oracle.Windows
    padding: str
    sigmas: tuple[float, ...]  # none for other windows than Gaussians

    @classmethod
    def of(cls, dims: int, padding: str, window_size: Any, sigma: Any, taps: Any) -> Window:
        sigmas = tuple(sigma) if isinstance(sigma, (tuple, list)) else (sigma,) * dims
        return cls(oracle.windows_of(dims, window_size, sigma, taps), padding, () if taps is not None else sigmas)

    def filter(self, image: Tensor, transposed: bool = False) -> Tensor:
        return oracle.filtered(image, self.taps, self.padding, transposed)

    @property
    def roundings(self) -> float:
        """Of a filter along all axes."""
        return sum(len(taps) + 2.0 for taps in self.taps)

    @property
    def roundings_of_gaussian(self) -> float:
        return sum((len(taps) // 2 / sigma) ** 2 for taps, sigma in zip(self.taps, self.sigmas, strict=False))

    @property
    def times_seen(self) -> int:
        """From how many positions of a window a single element may be seen."""
        longest = max(len(taps) for taps in self.taps)
        return {"same": 1, "valid": 1, "replicate": longest // 2 + 1}.get(self.padding, 2)

    def largest(self, values: Tensor) -> Tensor:
        """The largest value in each window; what lies beyond the border is in the window, too."""
        pool = torch.nn.functional.max_pool2d if values.dim() == 4 else torch.nn.functional.max_pool3d
        sizes = [len(taps) for taps in self.taps]
        return pool(values, sizes, stride=1, padding=[size // 2 for size in sizes])

    def crop(self, image: Tensor) -> Tensor:
        return oracle._crop(image, self.taps) if self.padding == "valid" else image


def _level(image: Approx, mask: Tensor | None) -> Tensor:
    """The largest magnitude in a plane, of numbers that no mask excludes."""
    magnitude = image.value.abs()
    counts = torch.isfinite(magnitude) if mask is None else torch.isfinite(magnitude) & (mask > 0)
    return torch.where(counts, magnitude, 0.0).amax(tuple(range(2, magnitude.dim())), keepdim=True)


def _times(a: Tensor, b: Tensor) -> Tensor:
    product = a * b
    return torch.where((a == 0) | (b == 0), 0.0, product)


def _finite(error: Tensor) -> Tensor:
    """Large instead of infinite, because filters multiply by 0."""
    return error.clamp(max=1e300).nan_to_num(nan=1e300)


@dataclass
class Terms:
    """What SSIM consists of at each position."""

    s: Approx
    d: Approx
    mu_s: Approx
    mu_d: Approx
    a: Approx
    t: Approx
    b: Approx
    inv2: Approx
    inverse_mass: Approx | None
    level_s: Tensor  # [N, C, 1, ...]: the largest |s - c| and |d - e| are less than twice these
    level_d: Tensor

    @property
    def lum(self) -> Approx:
        return _one_minus_twice(self.t)

    @property
    def cs(self) -> Approx:
        return _one_minus_twice(self.b)

    def dssim(self) -> Approx:
        value = self.t + self.b * self.lum
        return Approx(value.value, value.error.clamp(max=2.0), value.arithmetic)


def _one_minus_twice(v: Approx) -> Approx:
    return v._with(1 - 2 * v.value, 2 * v.error)


def make_terms(x: Approx, y: Approx, window: Window, c1: float, c2: float, mask: Tensor | None = None) -> Terms:
    """`mask` is given for normalised windows."""
    s, d = x + y, x - y

    def moment(image: Approx) -> Approx:
        return (image if mask is None else image.scaled(mask)).filtered(window)

    inverse = None
    moments = [moment(image) for image in (s, d, s * s, d * d)]
    if mask is not None:
        mass = s.arithmetic.exact(mask).filtered(window)
        seen = mass.value > 0
        safe = Approx(torch.where(seen, mass.value, 1.0), torch.where(seen, mass.error, 0.0), mass.arithmetic)
        inverse = safe.reciprocal(0.0)
        moments = [each * inverse for each in moments]
    mu_s, mu_d, sq_s, sq_d = moments
    level_s, level_d = _level(s, mask), _level(d, mask)
    level_d = torch.where(level_d**2 < c2 / 4, 0.0, level_d)
    unit = window.roundings * s.arithmetic.unit
    mu_s, mu_d = mu_s.worse(2 * unit * level_s), mu_d.worse(2 * unit * level_d)
    sq_s, sq_d = sq_s.worse(4 * unit * level_s**2), sq_d.worse(4 * unit * level_d**2)
    var_s, var_d = (sq_s - mu_s * mu_s).positive(), (sq_d - mu_d * mu_d).positive()
    sum2 = var_s + var_d
    # 2 C2 is in what is filtered.
    inv2 = Approx(sum2.value + 2 * c2, sum2.error + unit * 2 * c2, sum2.arithmetic).reciprocal(2 * c2)
    squares = mu_s * mu_s + mu_d * mu_d
    inv1 = Approx(squares.value + 2 * c1, squares.error, squares.arithmetic).reciprocal(2 * c1)
    a = mu_d * inv1
    t, b = (mu_d * a).limited(0, 1), (var_d * inv2).limited(0, 1)
    return Terms(s, d, mu_s, mu_d, a, t, b, inv2, inverse, level_s, level_d)


def gradients(
    terms: Terms,
    weight: Approx,
    window: Window,
    contrast_only: bool = False,
    mask: Tensor | None = None,
) -> tuple[Approx, Approx]:
    """Of sum(weight * S) by x and y; `contrast_only`: of sum(weight * contrast and structure)."""
    one = weight.arithmetic.exact(torch.ones_like(weight.value))
    lum = one if contrast_only else terms.lum
    if terms.inverse_mass is not None:
        weight = weight * terms.inverse_mass
    l2, ca = lum * terms.inv2, terms.cs * terms.a
    if contrast_only:
        ca = ca * 0.0
    var_s = l2 * terms.b
    var_d = var_s - l2
    mu_s = terms.mu_s * (ca * terms.a - var_s)
    mu_d = (ca * terms.t - ca) - terms.mu_d * var_d
    p, q, r, t = ((weight * part).filtered(window, transposed=True) for part in (mu_s, mu_d, var_s, var_d))
    unit = 2 * window.roundings * p.arithmetic.unit if window.times_seen > 1 else window.roundings * p.arithmetic.unit

    def of_pivot(level: Tensor, part: Approx) -> Tensor:  # (mu - c) times the part, filtered; and (s - c) times that
        return 4 * unit * level * window.filter((weight * part).value.abs(), transposed=True)

    p, q = p.worse(of_pivot(terms.level_s, var_s)), q.worse(of_pivot(terms.level_d, var_d))
    by_s, by_d = p + terms.s * r, q + terms.d * t
    both = []
    for grad in (by_s + by_d, by_s - by_d):
        result = grad * 4.0
        # For one gradient p + q is filtered as one: no more roundings, but they are of the larger of the two.
        both.append(result if mask is None else result.scaled(mask))
    return both[0], both[1]


# ---- Results: an error for each element of a value and of both gradients ---------------------------------------------


@dataclass
class Bounds:
    value: Tensor
    grad_x: Tensor
    grad_y: Tensor
    # The second computation
    values: Approx
    grads: tuple[Approx, Approx]


def _sums(values: Tensor, reduction: str) -> Tensor:
    """Sums where a reduction has means."""
    if reduction in ("mean", "sum"):
        return values.sum()
    if reduction == "none":
        return values
    return values.flatten(1 if reduction == "image" else 2).sum(-1)


def _spread(per_group: Tensor, like: Tensor, reduction: str) -> Tensor:
    """A number for each group, at each element."""
    if reduction == "none":
        return per_group
    return per_group.reshape(*per_group.shape, *[1] * (like.dim() - per_group.dim())).expand(like.shape)


def objective(
    x: Tensor,
    y: Tensor,
    dtype: torch.dtype,
    padding: str,
    upstream: Tensor,
    *,
    mask: Tensor | None = None,
    mask_mode: str = "weight",
    lambda_dssim: float | None = None,
    reduction: str = "mean",
    window_size: Any = 11,
    sigma: Any = 1.5,
    taps: Any = None,
    sample_covariance: bool = False,
    data_range: float = 1.0,
    K: Sequence[float] = (0.01, 0.03),
) -> Bounds:
    """For :func:`oracle.objective_and_grads` with the same arguments, computed in the arithmetic of `dtype`."""
    arithmetic = Arithmetic(UNIT[dtype], TINY[dtype])
    c1, c2 = ((k * data_range) ** 2 for k in K)
    x, y = x.double(), y.double()
    window = Window.of(x.dim() - 2, padding, window_size, sigma, taps)
    c2 /= oracle.covariance_factor(window.taps, sample_covariance)
    weights = torch.ones_like(x) if mask is None else mask.double().expand(x.shape)
    normalized = mask is not None and mask_mode == "normalized"
    terms = make_terms(arithmetic.exact(x), arithmetic.exact(y), window, c1, c2, weights if normalized else None)
    dssim = terms.dssim()
    # Map elements that count, and their weights; 0 where the padding crops.
    inside = torch.zeros_like(x)
    window.crop(inside).fill_(1)
    counted = weights * inside
    is_mean = reduction not in ("sum", "none")
    total, total_all = _sums(counted, reduction), _sums(weights, reduction)
    share = 1.0 if lambda_dssim is None else lambda_dssim
    factor = -2.0 if lambda_dssim is None else 2.0 * lambda_dssim

    def reduced(values: Approx, weight: Tensor, sums: Tensor) -> Approx:
        value, error = _sums(weight * values.value, reduction), _sums(_times(weight, values.error), reduction)
        if reduction == "none":
            return Approx(value, error, arithmetic)
        error = error + SUM * arithmetic.unit * (_sums(weight * values.value.abs(), reduction) + error)
        return Approx(value / sums, error / sums, arithmetic) if is_mean else Approx(value, error, arithmetic)

    structural = reduced(dssim, counted, total)
    base = torch.ones_like(structural.value) if is_mean else total
    value = factor * structural.value + (base if lambda_dssim is None else 0)
    error = abs(factor) * structural.error
    if lambda_dssim is not None and lambda_dssim < 1:
        difference = Approx(terms.d.value.abs(), terms.d.error, arithmetic)
        l1 = reduced(difference, weights, total_all)
        value = value + (1 - lambda_dssim) * l1.value
        error = error + (1 - lambda_dssim) * l1.error
    # Rounding of the value, of the base (a sum of a mask in the arithmetic), and of the products with the factors.
    error = error + 4 * arithmetic.unit * (value.abs() + base.abs()) + arithmetic.tiny
    if reduction == "sum" and mask is not None:
        error = error + SUM * arithmetic.unit * total

    per_group = upstream.double()
    by_map = per_group / total if is_mean else per_group
    # The map of padding "valid" is smaller than the images; there `upstream` belongs to what is inside.
    if reduction == "none":
        at_positions = torch.zeros_like(x)
        window.crop(at_positions).copy_(per_group)
    else:
        at_positions = _spread(by_map, x, reduction)
    at_map = at_positions * counted * share * (1 if lambda_dssim is None else -1)
    at_map = torch.where(counted == 0, 0.0, at_map)
    weight = Approx(at_map, SUM * arithmetic.unit * at_map.abs(), arithmetic)
    both = gradients(terms, weight, window, mask=weights if normalized else None)
    if lambda_dssim is not None and lambda_dssim < 1:
        by_element = _spread(per_group / total_all if is_mean else per_group, x, reduction)
        slope = (x - y).sign() * weights * by_element * (1 - lambda_dssim)
        l1_grad = Approx(slope, SUM * arithmetic.unit * slope.abs(), arithmetic)
        both = (both[0] + l1_grad, both[1] - l1_grad)
    crop = window.crop(error) if reduction == "none" else error
    values = window.crop(value) if reduction == "none" else value
    largest = float(upstream.abs().max()) if upstream.numel() else 0.0
    return Bounds(crop, *_stored(both, dtype, largest), Approx(values, crop, arithmetic), both)


def _stored(both: tuple[Approx, Approx], dtype: torch.dtype, upstream: float) -> tuple[Tensor, Tensor]:
    """The errors of gradients that are stored in `dtype`, perhaps before they are multiplied by `upstream`."""
    relative, absolute = STORED.get(dtype, (UNIT[dtype], TINY[dtype]))
    return tuple(
        grad.error + 2.5 * relative * (grad.value.abs() + grad.error) + (2 + upstream) * absolute for grad in both
    )  # type: ignore[return-value]


# ---- MS-SSIM ---------------------------------------------------------------------------------------------------------


def _halved(image: Approx) -> Approx:
    dims = image.value.dim() - 2
    magnitude = oracle._halved(image.value.abs())
    return Approx(
        oracle._halved(image.value),
        oracle._halved(image.error) + (dims + 2) * image.arithmetic.unit * magnitude + image.arithmetic.tiny,
        image.arithmetic,
    )


def _doubled(grad: Approx, shape: torch.Size) -> Approx:
    """The adjoint of :func:`_halved`."""

    def up(image: Tensor) -> Tensor:
        for axis in range(2, image.dim()):
            image = image.repeat_interleave(2, axis) / 2
            image = image.narrow(axis, shape[axis] % 2, shape[axis])
        return image

    return grad._with(up(grad.value), up(grad.error))


def ms_ssim(
    x: Tensor,
    y: Tensor,
    dtype: torch.dtype,
    padding: str,
    weights: Sequence[float],
    upstream: Tensor,
    *,
    window_size: Any = 11,
    sigma: Any = 1.5,
    taps: Any = None,
    sample_covariance: bool = False,
    data_range: float = 1.0,
    K: Sequence[float] = (0.01, 0.03),
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None, tuple[Approx, Approx] | None]:
    """Bounds (low, high) of MS-SSIM of each plane, the errors of both gradients of sum(upstream * planes), and these.

    The value is a product of powers, each of which grows with its mean: the bounds are those of the means, put in.
    No gradients where a mean may be 0, and where its power has no derivative.
    """
    arithmetic = Arithmetic(UNIT[dtype], TINY[dtype])
    c1, c2 = ((k * data_range) ** 2 for k in K)
    window = Window.of(x.dim() - 2, padding, window_size, sigma, taps)
    c2 /= oracle.covariance_factor(window.taps, sample_covariance)
    images = [(arithmetic.exact(x.double()), arithmetic.exact(y.double()))]
    for _ in weights[1:]:
        images.append((_halved(images[-1][0]), _halved(images[-1][1])))
    levels, means = [], []
    for level, (first, second) in enumerate(images):
        terms = make_terms(first, second, window, c1, c2)
        half = terms.b if level + 1 < len(weights) else terms.dssim()
        inside = torch.zeros_like(first.value)
        window.crop(inside).fill_(1)
        count = inside.flatten(2).sum(-1)
        mean = 1 - 2 * (half.value * inside).flatten(2).sum(-1) / count
        error = 2 * (half.error * inside).flatten(2).sum(-1) / count + SUM * arithmetic.unit * (2 + mean.abs())
        levels.append((terms, inside / count[(..., *[None] * (x.dim() - 2))]))
        means.append((mean, error))
    power = 8 * arithmetic.unit  # of the product and its rounding
    low = math.prod((mean - error).clamp(min=0) ** w for (mean, error), w in zip(means, weights, strict=True))
    high = math.prod((mean + error).clamp(min=0) ** w for (mean, error), w in zip(means, weights, strict=True))
    low, high = low * (1 - power) - arithmetic.tiny, high * (1 + power) + arithmetic.tiny
    if any(((mean - error) <= 0).any() for mean, error in means):
        return low, high, None, None
    value = math.prod(mean**w for (mean, _), w in zip(means, weights, strict=True))
    relative = torch.maximum(high / value - 1, 1 - low / value)
    coarse: tuple[Approx, Approx] | None = None
    for level in reversed(range(len(weights))):
        terms, inside = levels[level]
        mean, error = means[level]
        by_mean = upstream * weights[level] * value / mean
        off = by_mean.abs() * ((1 + relative) * mean / (mean - error) - 1 + SUM * arithmetic.unit)
        extend = (..., *[None] * (x.dim() - 2))
        weight = Approx(by_mean[extend] * inside, off[extend] * inside, arithmetic)
        both = gradients(terms, weight, window, contrast_only=level + 1 < len(weights))
        if coarse is not None:
            shape = images[level][0].value.shape
            both = (both[0] + _doubled(coarse[0], shape), both[1] + _doubled(coarse[1], shape))
        coarse = both
    assert coarse is not None
    return low, high, _stored(coarse, dtype, float(upstream.abs().max())), coarse
