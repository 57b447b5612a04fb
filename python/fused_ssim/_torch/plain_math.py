# SPDX-License-Identifier: MIT
"""DSSIM and its gradient in closed form, from plain operations of torch: the formulas of docs/derivation.md.

Nothing here is recorded by autograd. Tensors that are of no more use are overwritten or dropped at once, so that at
most eight are alive beside the images.

The sum ``s`` and the difference ``d`` of the images are taken relative to a constant of each plane, the pivot. This
changes no variance, and saves the digits that bright, flat images cost. ``missing`` is what a window lacks of the mass
1, because of zeros beyond the border or because of its taps. With ``s' = s - c``, ::

    mean - c = G*s' - missing c        var = G*s'^2 + missing c^2 - (mean - c)^2

and the same for ``d``. In the gradient, ``mean - c`` takes the place of the mean, and ``s'`` that of ``s``, where they
stand beside the derivative by the variance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from .._base.codes import GRAD_1, GRAD_2

if TYPE_CHECKING:
    from .plain_filters import Window

# The partial maps leave out the factors 2 and 4 of the derivatives, as equation (5) does.
GRADIENT_FACTOR = 4.0

# The pivot of a plane is the mean of some of its pixels: at least as many along each axis, and less than twice as many.
_SAMPLES = {2: 16, 3: 6}


class Pair(NamedTuple):
    """Two images in the dtype of the arithmetic, [N, C, ...].

    Attributes:
        x: the first image.
        y: the second image.
        seen: where something looks at the images, if not everywhere. They are 0 elsewhere.
        mask: how much each pixel counts in the statistics of a window; None: all the same.

    """

    x: Tensor
    y: Tensor
    seen: Tensor | None = None
    mask: Tensor | None = None


class Constants(NamedTuple):
    """The constants of SSIM, for all images or for each, [N, 1, ...].

    Attributes:
        c1: of the luminance.
        c2: of contrast and structure.
        may_vanish: whether one of them may be 0, so that 0 / 0 may come up, which counts as 0.

    """

    c1: float | Tensor
    c2: float | Tensor
    may_vanish: bool


class Pivots(NamedTuple):
    """The constants that are subtracted from both images and from their difference, [N, C, 1, ...]."""

    x: Tensor
    y: Tensor
    d: Tensor

    @property
    def s(self) -> Tensor:
        """What is subtracted from the sum of the images."""
        return self.x + self.y


class _Statistics(NamedTuple):
    """Filtered images; the means are those of the pivoted images."""

    mean_s: Tensor
    mean_d: Tensor
    var_s: Tensor
    var_d: Tensor
    mass: Tensor | None


def compare(
    images: Pair,
    window: Window,
    constants: Constants,
    weight: Tensor | None,
    wanted: int,
    *,
    luminance: bool = True,
    has_map: bool = False,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """DSSIM of two images, and the gradients of the sum of SSIM, which still lack :data:`GRADIENT_FACTOR`.

    Args:
        images: what to compare.
        window: the window, and its filter.
        constants: of SSIM.
        weight: of each map element. Where it is 0, nothing is looked at.
        wanted: the set of gradients.
        luminance: whether its term is part of the map. MS-SSIM has levels without it.
        has_map: whether the result is the map itself. Otherwise it is sums over each plane, [N, C, 2]: of DSSIM, and
            of 1/2 - DSSIM, which has the digits of SSIM where that is small.

    Returns:
        DSSIM times the weight, and the gradients of the sum of SSIM times the weight. Those not wanted are None.

    """
    pivots = _pivots(images)
    dssim, partials = _maps(_statistics(images, window, pivots), pivots, constants, weight, wanted, luminance, has_map)
    return dssim, *(_gradients(images, window, pivots, partials, wanted) if wanted else (None, None))


def _pivots(images: Pair) -> Pivots:
    """Finite, whatever the images hold."""
    dims = images.x.dim() - 2
    steps = (slice(None, None, max(1, size // _SAMPLES[dims])) for size in images.x.shape[2:])
    some = (slice(None), slice(None), *steps)
    x, y = images.x[some], images.y[some]
    d = x - y
    usable = d.isfinite()  # so both are
    if images.seen is not None:
        usable.logical_and_(images.seen.expand(images.x.shape)[some])
    axes = tuple(range(2, dims + 2))
    number = usable.sum(axes, keepdim=True).clamp_(min=1)
    means = (torch.where(usable, each, 0.0).sum(axes, keepdim=True) / number for each in (x, y, d))
    return Pivots(*(torch.where(mean.isfinite(), mean, 0.0) for mean in means))


def _pivoted(images: Pair, pivots: Pivots) -> tuple[Tensor, Tensor]:
    # The sum of pivoted images, since that of bright images has fewer digits than they. The difference of the images
    # themselves, which has more digits than they where they nearly agree.
    return (images.x - pivots.x).add_(images.y - pivots.y), (images.x - images.y).sub_(pivots.d)


def _statistics(images: Pair, window: Window, pivots: Pivots) -> _Statistics:
    s, d = _pivoted(images, pivots)
    if images.mask is None:
        planes = [s, d, s * s, d * d]
        del s, d
        mean_s, mean_d, var_s, var_d = window.filter(planes)
        missing = window.missing()
        if missing is not None:
            for mean, var, pivot in ((mean_s, var_s, pivots.s), (mean_d, var_d, pivots.d)):
                mean.addcmul_(missing, pivot, value=-1)
                var.addcmul_(missing, pivot * pivot)
        mass = None
    else:
        planes = [s * images.mask, d * images.mask, s.square_().mul_(images.mask), d.square_().mul_(images.mask)]
        del s, d
        mean_s, mean_d, var_s, var_d = window.filter(planes)
        (mass,) = window.filter([images.mask])
        # An empty window has a weight of 0 in everything.
        mass = torch.where(mass > 0, mass, 1.0)
        for statistic in (mean_s, mean_d, var_s, var_d):
            statistic.div_(mass)
    for mean, var in ((mean_s, var_s), (mean_d, var_d)):
        var.addcmul_(mean, mean, value=-1).clamp_(min=0)
    return _Statistics(mean_s, mean_d, var_s, var_d, mass)


def _maps(
    statistics: _Statistics,
    pivots: Pivots,
    constants: Constants,
    weight: Tensor | None,
    wanted: int,
    luminance: bool,
    has_map: bool,
) -> tuple[Tensor, list[Tensor]]:
    """Equations (3) to (5), in the names of docs/derivation.md. The statistics are overwritten.

    The partial maps are those of the mean of s, the mean of d, the variance of s and, with the other sign, the variance
    of d. For a single gradient, those of the means are merged into one.
    """
    mean_s, mean_d, var_s, var_d, mass = statistics
    del statistics
    if weight is not None:
        nothing = weight == 0
        for statistic in (mean_s, mean_d, var_s, var_d):
            statistic.masked_fill_(nothing, 0)  # may be NaN, which a product with 0 would keep
    D2 = _safe((var_s + var_d).add_(2 * constants.c2), constants)
    del var_s
    b = var_d.div_(D2)
    if luminance:
        mu_s, t = mean_s + pivots.s, mean_d + pivots.d
        a = t / _safe((mu_s * mu_s).add_(2 * constants.c1).addcmul_(t, t), constants)
        t.mul_(a)
        dssim = (t * b).mul_(-2).add_(t).add_(b).clamp_(min=0)
    else:
        dssim = b.clamp(min=0)
    if weight is not None:
        dssim.mul_(weight)
    if not has_map:
        dssim = _sums(dssim, weight)
    if not wanted:
        return dssim, []

    u = weight if mass is None or weight is None else weight / mass
    r = (t * -2).add_(1).div_(D2) if luminance else D2.reciprocal()
    del D2
    if u is not None:
        r.mul_(u)
    p_var_s = r * b
    minus_p_var_d = r.sub_(p_var_s)
    if luminance:
        gamma_a = b.mul_(-2).add_(1).mul_(a)
        if u is not None:
            gamma_a.mul_(u)
        p_mean_s = mu_s.mul_(gamma_a).mul_(a).addcmul_(mean_s, p_var_s, value=-1)
        p_mean_d = t.sub_(1).mul_(gamma_a).addcmul_(mean_d, minus_p_var_d)
    else:
        p_mean_s, p_mean_d = mean_s.mul_(p_var_s).neg_(), mean_d.mul_(minus_p_var_d)
    if wanted == GRAD_1 | GRAD_2:
        return dssim, [p_mean_s, p_mean_d, p_var_s, minus_p_var_d]
    p_mean_s.add_(p_mean_d, alpha=1 if wanted == GRAD_1 else -1)
    return dssim, [p_mean_s, p_var_s, minus_p_var_d]


def _sums(dssim: Tensor, weight: Tensor | None) -> Tensor:
    rows = dssim.sum(-1)
    half = 0.5 * (dssim.shape[-1] if weight is None else weight.sum(-1))
    return torch.stack((rows.flatten(2).sum(2), (half - rows).flatten(2).sum(2)), 2)


def _safe(denominator: Tensor, constants: Constants) -> Tensor:
    """The denominator with 1 in place of 0: the numerator is 0, too."""
    return denominator.masked_fill_(denominator == 0, 1) if constants.may_vanish else denominator


def _gradients(
    images: Pair, window: Window, pivots: Pivots, partials: list[Tensor], wanted: int
) -> tuple[Tensor | None, Tensor | None]:
    """Equations (6) and (7), without their factor. The list is emptied."""
    first, *others = window.spread(partials)
    s, d = _pivoted(images, pivots)
    if wanted != GRAD_1 | GRAD_2:
        by_s, minus_by_d = others
        sign = -1 if wanted == GRAD_1 else 1
        grad = first.addcmul_(s, by_s).addcmul_(d, minus_by_d, value=sign)
        if images.mask is not None:
            grad.mul_(images.mask)
        return (grad, None) if wanted == GRAD_1 else (None, grad)
    second, by_s, minus_by_d = others
    of_s, of_d = first.addcmul_(s, by_s), second.addcmul_(d, minus_by_d, value=-1)
    del s, d, by_s, minus_by_d
    if images.mask is not None:
        of_s.mul_(images.mask)
        of_d.mul_(images.mask)
    grad1 = of_s + of_d
    return grad1, of_s.sub_(of_d)
