# SPDX-License-Identifier: MIT
"""Generated calls against the oracle, with tolerances that follow from each case (bounds.py).

The usual run is short and the same each time. FUSEDSSIM_EXAMPLES=20000 gives each test so many examples, new ones each
time; `nox -s hunt` does that.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

import bounds
import oracle
import pytest
import torch
from cases import (
    FLOAT_DTYPES,
    LAYOUTS,
    PADDINGS,
    Case,
    check,
    compare,
    draw_case,
    laid_out,
    make_images,
    ratio,
    run,
    windows,
    without_integers,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fused_ssim
import fused_ssim.array

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

T = TypeVar("T")

EXAMPLES = int(os.environ.get("FUSEDSSIM_EXAMPLES", "0"))


def examples(usual: int) -> Callable[[Any], Any]:
    """So many for the short run, which is the same everywhere."""
    return settings(
        max_examples=EXAMPLES or usual,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        print_blob=True,
        # The devices are a fixture, which does not change from example to example.
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )


class HypothesisChoices:
    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self._draw = draw

    def integer(self, low: int, high: int) -> int:
        return int(self._draw(st.integers(low, high)))

    def pick(self, values: Sequence[T]) -> T:
        return self._draw(st.sampled_from(values))  # type: ignore[no-any-return]

    def chance(self, percent: int) -> bool:
        return bool(self._draw(st.integers(0, 99)) >= 100 - percent)


@st.composite
def cases(draw: Any, **limits: int) -> Case:
    return draw_case(HypothesisChoices(draw), **limits)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The oracle's products are small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@given(case=cases())
@examples(250)
def test_value_and_gradients_are_within_their_bounds(device: str, case: Case) -> None:
    worst = check(case, device)
    assert worst.largest <= 1, worst.reason


@given(case=cases())
@examples(60)
def test_layouts_change_no_bit(device: str, case: Case) -> None:
    x, y = case.images(device)
    mask = case.mask(device)
    value, grads, _ = run(case, x, y, mask)
    again, same, _ = run(case, x.contiguous(), y.contiguous(), mask)
    assert torch.equal(value.nan_to_num(nan=7), again.nan_to_num(nan=7))
    for name, grad in grads.items():
        assert torch.equal(grad.nan_to_num(nan=7), same[name].nan_to_num(nan=7)), name


@given(case=cases())
@examples(60)
def test_identical_images_give_exactly_one_and_no_gradient(device: str, case: Case) -> None:
    without_integers(case)  # of two images that are identical, none has another dtype
    x, _ = case.images(device)
    mask = case.mask(device)
    y = laid_out(x, case.layouts[1] if case.layouts[1] != "expanded_batch" else "transposed", device)
    value, grads, _ = run(case, x, y, mask)
    is_loss = case.lambda_dssim is not None or case.call == "module"
    if is_loss:
        wanted = torch.zeros_like(value)
    elif case.reduction in ("sum", "none") and mask is not None:
        wanted = None  # the sum of the mask, rounded; or the mask
    else:
        kept = oracle._crop(x, windows(case)) if case.padding == "valid" else x
        count = kept.numel() if case.reduction == "sum" else 1
        wanted = torch.full_like(value, count)
    if wanted is not None:
        assert torch.equal(torch.where(value.isnan() & (mask is not None), wanted, value), wanted)
    for grad in grads.values():
        zero = grad == 0
        assert bool((zero | grad.isnan() if mask is not None else zero).all())


@st.composite
def scales(draw: Any) -> tuple[Case, tuple[float, ...]]:
    """A case without mask and loss, and the weights of scales."""
    choices = HypothesisChoices(draw)
    window_size = choices.pick([3, 5, 1, 7, 11])
    padding = choices.pick(PADDINGS)
    dims = choices.pick([2, 3])
    # 0 is left out: see test_ms_ssim_weight_of_zero_counts_as_one in test_hunted.py.
    weights = tuple(choices.pick([0.3, 1.0, 0.05]) for _ in range(choices.integer(1, 4)))
    least = (window_size - 1) * 2 ** (len(weights) - 1) + 1 if padding == "valid" else 1
    if padding == "valid" and least > (40 if dims == 2 else 13):
        padding, least = "same", 1
    sides = [least + choices.integer(0, 17 if dims == 2 else 7) for _ in range(dims)]
    case = Case(
        shape=(choices.integer(1, 2), choices.integer(1, 3), *sides),
        dtype=choices.pick(FLOAT_DTYPES),
        kind=choices.pick(["related", "near", "random", "smooth", "bright", "bytes"]),
        seed=choices.integer(0, 2**16),
        layouts=(choices.pick(LAYOUTS), choices.pick(LAYOUTS)),
        padding=padding,
        reduction=choices.pick(["mean", "sum", "image", "channel"]),
    )
    case.settings = {
        "window_size": window_size,
        "sigma": choices.pick([1.5, 0.7, 3.0]),
        "data_range": 255.0 if case.kind == "bytes" else 1.0,
        "K": choices.pick([(0.01, 0.03), (0.05, 0.1)]),
    }
    if choices.chance(25):
        case.settings["window_size"] = tuple(min(choices.pick([5, 1, 3, 7]), window_size) for _ in range(dims))
        case.settings["taps"] = choices.pick([None, "uniform"])
    return case, weights


@given(drawn=scales())
@examples(80)
def test_ms_ssim_is_within_its_bounds(device: str, drawn: tuple[Case, tuple[float, ...]]) -> None:
    case, weights = drawn
    x, y = (image.detach().requires_grad_() for image in case.images(device))
    loss = fused_ssim.MSSSIMLoss(case.padding, weights=weights, reduction=case.reduction, **case.settings)
    value = loss(x, y)
    grad_x, grad_y = torch.autograd.grad(value.sum(), (x, y))

    exact = [image.detach().cpu().double().contiguous().requires_grad_() for image in (x, y)]
    planes = oracle.ms_ssim(*exact, case.padding, weights, **case.settings)
    expected = _loss(planes, case.reduction)
    by_planes = torch.autograd.grad(expected.sum(), planes, retain_graph=True)[0]
    low, high, errors, second = bounds.ms_ssim(
        *(image.detach() for image in exact), case.dtype, case.padding, weights, by_planes, **case.settings
    )
    limits = [_loss(planes_, case.reduction) for planes_ in (high, low)]
    slack = bounds.SUM * bounds.UNIT[case.dtype] * planes.numel()
    got = value.detach().cpu().double()
    assert got.shape == expected.shape
    assert bool((limits[0] - slack <= got).all())
    assert bool((got <= limits[1] + slack).all())
    # The bounds come from the sum/difference form; in float64 the classic form has to agree with it.
    assert bool((limits[0] - slack - 1e-8 <= expected).all())
    assert bool((expected <= limits[1] + slack + 1e-8).all())
    if errors is None or second is None:
        return  # a mean may be 0, where powers have no derivative
    wanted = torch.autograd.grad(expected.sum(), exact)
    for name, grad, want, other, error in zip("xy", (grad_x, grad_y), wanted, second, errors, strict=True):
        part, reason = ratio(grad, want, other.value, error)
        assert part <= 1, f"grad_{name}: {reason}"


def _loss(planes: Tensor, reduction: str) -> Tensor:
    if reduction == "sum":
        return planes.numel() - planes.sum()
    return 1 - {"mean": planes.mean(), "image": planes.mean(1), "channel": planes}[reduction]


@given(case=cases(), flips=st.integers(0, 2**10 - 1), steps=st.integers(1, 3))
@examples(80)
def test_arrays_of_any_strides_are_within_their_bounds(case: Case, flips: int, steps: int) -> None:
    np = pytest.importorskip("numpy")
    without_integers(case)
    case.mask_axes, case.mask_mode, case.lambda_dssim, case.call = None, "weight", None, "value_and_grad"
    if case.dtype == torch.bfloat16:
        case.dtype = torch.float16  # NumPy has no bfloat16
    images = []
    for number, image in enumerate(make_images(case.kind, case.shape, case.seed)):
        image = image.to(case.dtype)
        backwards = tuple(
            slice(None, None, -1 if flips >> (5 * number + axis) & 1 else 1) for axis in range(image.dim())
        )
        wide = np.full((*image.shape[:-1], image.shape[-1] * steps), np.nan, image.numpy().dtype)
        view = wide[..., ::steps][backwards]
        view[...] = image.numpy()
        images.append((image, view))
    argnums = tuple("xy".index(name) for name in case.grads)
    value, grads = fused_ssim.array.value_and_grad(
        images[0][1], images[1][1], case.padding, argnums=argnums, reduction=case.reduction, **case.settings
    )
    found = {name: torch.from_numpy(np.asarray(grad)) for name, grad in zip(case.grads, grads, strict=True)}
    value = torch.from_numpy(np.asarray(value))
    worst = compare(case, images[0][0], images[1][0], None, value, found, torch.ones(value.shape, dtype=torch.float64))
    assert worst.largest <= 1, worst.reason
    alone = fused_ssim.array.value(images[0][1], images[1][1], case.padding, reduction=case.reduction, **case.settings)
    assert np.allclose(alone, value.numpy(), rtol=0, atol=2e-6 * max(1.0, abs(float(value.abs().max()))))
