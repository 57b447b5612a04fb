# SPDX-License-Identifier: MIT
"""`fused_ssim.jax` on JAX's default device: values, gradients and vmap, against the oracle and plain jax.numpy.

All in float64 unless a test is about another dtype. test_jax_ffi.py is about the programs that these calls become.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import oracle
import pytest
import torch
from images import FLOAT_DTYPES, INTEGER_DTYPES, pair, readable, relative_error
from tolerances import (
    BFLOAT16_EPS,
    FLOAT32_EPS,
    GRADIENT,
    GRADIENT_SCALED,
    LEVELS,
    MAP,
    MASKED_GRADIENT,
    VALUE,
    mean_tolerance,
)

import fused_ssim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

jax = pytest.importorskip("jax", minversion="0.6")
jnp = jax.numpy

SHAPES = [(2, 3, 33, 29), (1, 1, 11, 40), (2, 2, 13, 17, 12)]
REDUCTIONS = ["mean", "sum", "image", "channel", "none"]


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def arrays(shape: tuple[int, ...], dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Any, Any]:
    """Two images of JAX. bfloat16 goes by float32, which loses nothing."""
    name = str(dtype).removeprefix("torch.")
    x, y = (image.to(dtype).float() if dtype == torch.bfloat16 else image for image in pair(shape, dtype, seed=seed))
    return jnp.asarray(x.numpy()).astype(name), jnp.asarray(y.numpy()).astype(name)


def tensor(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(jnp.asarray(array).astype("float64")))


def random(shape: tuple[int, ...], seed: int = 0) -> Any:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def last(array: Any) -> Any:
    """[N, C, ...] with the channels last."""
    return jnp.moveaxis(array, 1, -1)


# ---- Values and gradients --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=readable)
@pytest.mark.parametrize("shape", SHAPES, ids=readable)
def test_value_and_both_gradients_agree_with_the_definition(
    shape: tuple[int, ...], dtype: torch.dtype, padding: str
) -> None:
    x, y = arrays(shape, dtype)
    function = jax.jit(jax.value_and_grad(lambda a, b: fused_ssim.jax.ssim(a, b, padding, reduction="sum"), (0, 1)))
    value, (grad_x, grad_y) = function(x, y)
    expected, expected_x, expected_y = oracle.ssim_and_grads(tensor(x), tensor(y), padding, reduction="sum")
    assert value.dtype == ("float64" if dtype == torch.float64 else "float32")
    assert grad_x.dtype == grad_y.dtype == x.dtype
    elements = oracle.ssim_map(tensor(x), tensor(y), padding).numel()
    assert abs(float(value) - float(expected)) / elements < mean_tolerance(dtype, elements)
    assert relative_error(tensor(grad_x), expected_x) < GRADIENT[dtype]
    assert relative_error(tensor(grad_y), expected_y) < GRADIENT[dtype]

    image_map = fused_ssim.jax.ssim(x, y, padding, reduction="none")
    assert float(abs(tensor(image_map) - oracle.ssim_map(tensor(x), tensor(y), padding)).max()) < MAP[dtype]


CASES = [
    *({"reduction": reduction} for reduction in REDUCTIONS),
    *({"reduction": reduction, "padding": "valid", "mask": "bool"} for reduction in REDUCTIONS),
    *({"reduction": reduction, "mask": "float", "mask_mode": "normalized"} for reduction in REDUCTIONS),
    {"lambda_dssim": 0.2},
    {"lambda_dssim": 0.4, "padding": "valid", "reduction": "image"},
    {"lambda_dssim": 1.0, "padding": "valid", "reduction": "none"},
    {"lambda_dssim": 0.7, "reduction": "sum", "mask": "float"},
    {"window_size": 7, "sigma": 0.9, "K": (0.02, 0.05), "data_range": 255.0},
    {"window_size": 33, "sigma": 5.0},
    {"padding": "reflect"},
    {"padding": "symmetric", "reduction": "sum", "mask": "float"},
    {"padding": "replicate", "reduction": "none", "lambda_dssim": 0.3},
    {"padding": "reflect", "reduction": "image", "mask": "bool", "mask_mode": "normalized"},
    {"window_size": (3, 9), "sigma": (0.8, 2.0), "padding": "valid"},
    {"sigma": (0.8, 2.0), "padding": "symmetric", "reduction": "none"},
    {"taps": "uniform", "window_size": 7, "sample_covariance": True, "padding": "symmetric"},
    {"taps": [0.25, 0.5, 0.25], "lambda_dssim": 0.5, "sample_covariance": True},
    {"taps": ((0.25, 0.5, 0.25), (0.1, 0.2, 0.4, 0.2, 0.1)), "reduction": "channel"},
]


@pytest.mark.parametrize("layout", ["channels first", "channels last"])
@pytest.mark.parametrize("settings", CASES, ids=str)
def test_every_setting_agrees_with_the_definition(settings: dict[str, Any], layout: str) -> None:
    settings = dict(settings)
    shape = (2, 3, 37, 41)
    x, y = arrays(shape)
    scale = settings.get("data_range", 1.0)
    x, y = x * scale, y * scale
    weights = np.random.default_rng(5).random((2, 1, 37, 41))
    kind = settings.pop("mask", None)
    mask = (
        None if kind is None else jnp.asarray(weights < 0.6 if kind == "bool" else np.where(weights < 0.3, 0, weights))
    )
    is_loss = "lambda_dssim" in settings
    public = fused_ssim.jax.photometric_loss if is_loss else fused_ssim.jax.ssim
    flip: Callable[[Any], Any] = last if layout == "channels last" else lambda array: array
    axis = -1 if layout == "channels last" else 1
    given = None if mask is None else flip(mask)

    def function(first: Any, second: Any) -> Any:
        return public(first, second, mask=given, channel_axis=axis, **settings)

    value, pull = jax.vjp(function, flip(x), flip(y))
    upstream = random(value.shape)
    grad_x, grad_y = pull(upstream)
    as_map = settings.get("reduction") == "none" and layout == "channels last"
    native = jnp.moveaxis(upstream, -1, 1) if as_map else upstream
    expected, expected_x, expected_y = oracle.objective_and_grads(
        tensor(x),
        tensor(y),
        **{"padding": "same", **settings},
        mask=None if mask is None else tensor(mask),
        upstream=tensor(native),
    )
    found = jnp.moveaxis(value, -1, 1) if as_map else value
    assert relative_error(tensor(found), expected) < 10 * VALUE[torch.float64]
    for found, wanted in ((grad_x, expected_x), (grad_y, expected_y)):
        assert relative_error(tensor(found), tensor(flip(jnp.asarray(wanted.numpy())))) < MASKED_GRADIENT[torch.float64]


def plain_ssim(x: Any, y: Any) -> Any:
    """The map of SSIM, classic form, in operations of JAX."""
    taps = tuple(oracle.gaussian(11, 1.5))
    bands = [jnp.asarray(oracle.band_matrix(size, taps).numpy()) for size in x.shape[2:]]

    def blurred(image: Any) -> Any:
        return jnp.einsum("nchw,hi,wj->ncij", image, *bands, precision="highest")  # GPUs have less by default

    mean_x, mean_y = blurred(x), blurred(y)
    var_x, var_y, cov = blurred(x * x) - mean_x**2, blurred(y * y) - mean_y**2, blurred(x * y) - mean_x * mean_y
    top = (2 * mean_x * mean_y + 1e-4) * (2 * cov + 9e-4)
    return top / ((mean_x**2 + mean_y**2 + 1e-4) * (var_x + var_y + 9e-4))


def test_programs_around_it_agree_with_plain_operations_of_jax() -> None:
    """Network before, other losses beside, both images from one parameter, a scan of steps, remat."""
    base, target = arrays((2, 3, 24, 21))

    def rendered(params: Any) -> Any:
        return jnp.tanh(base * params["gain"] + params["bias"]) ** 2

    def steps(similarity: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
        def loss(params: Any) -> Any:
            image = rendered(params)
            first = similarity(image, target)
            second = jax.checkpoint(lambda a: similarity(a, jnp.flip(a, 3) * 0.9))(image)
            return 1 - first + 0.3 * second**2 + 0.1 * (image**2).mean()

        def step(params: Any, rate: Any) -> tuple[Any, Any]:
            value, grads = jax.value_and_grad(loss)(params)
            return jax.tree.map(lambda p, g: p - rate * g, params, grads), value

        def run(params: Any) -> Any:
            return jax.lax.scan(step, params, jnp.array([0.5, 0.3, 0.2]))

        return run

    start = {"gain": jnp.full((3, 1, 1), 0.8), "bias": jnp.zeros((2, 1, 24, 21))}
    found = jax.jit(steps(fused_ssim.jax.ssim))(start)
    expected = jax.jit(steps(lambda a, b: plain_ssim(a, b).mean()))(start)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("argnums", [0, 1, (0, 1), (1, 0)])
def test_gradients_may_be_asked_for_in_any_order(argnums: Any) -> None:
    # One traced function serves all of them: what forward keeps must have one structure.
    x, y = arrays((1, 2, 20, 23))
    for function in (fused_ssim.jax.ssim, jax.jit(fused_ssim.jax.ssim)):
        for upstream in (lambda value: value, lambda value: jnp.sin(3 * value)):
            found = jax.grad(lambda a, b, f=function, u=upstream: u(f(a, b)), argnums)(x, y)
            expected = jax.grad(lambda a, b, u=upstream: u(plain_ssim(a, b).mean()), argnums)(x, y)
            jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, atol=1e-14), found, expected)


def test_same_array_may_be_both_images() -> None:
    x, _ = arrays((1, 2, 20, 23))
    value, grad = jax.value_and_grad(lambda a: fused_ssim.jax.ssim(a, a))(x)
    assert value == 1
    assert float(abs(grad).max()) < 1e-15


@pytest.mark.parametrize(
    ("shape", "reduction"),
    [((2, 3, 40, 50), "mean"), ((2, 3, 40, 50), "channel"), ((1, 2, 20, 24, 22), "sum"), ((2, 1, 20, 24, 22), "image")],
    ids=readable,
)
def test_ms_ssim_agrees_with_the_definition(shape: tuple[int, ...], reduction: str) -> None:
    weights = (0.3, 0.45, 0.25)
    x, y = arrays(shape)
    settings = {"weights": weights, "window_size": 5}
    value, pull = jax.vjp(lambda a, b: fused_ssim.jax.ms_ssim(a, b, reduction=reduction, **settings), x, y)
    upstream = random(value.shape)
    tx, ty = tensor(x).requires_grad_(), tensor(y).requires_grad_()
    planes = oracle.ms_ssim(tx, ty, "valid", weights, window_size=5)
    expected = {"mean": planes.mean(), "sum": planes.sum(), "image": planes.mean(1), "channel": planes}[reduction]
    assert relative_error(tensor(value), expected.detach()) < VALUE[torch.float64]
    for found, wanted in zip(pull(upstream), torch.autograd.grad(expected, (tx, ty), tensor(upstream)), strict=True):
        assert relative_error(tensor(found), wanted) < GRADIENT[torch.float64]


@pytest.mark.parametrize(
    ("axis", "shape"),
    [
        (None, (30, 31)),
        (None, (14, 15, 16)),
        (0, (3, 20, 21)),
        (-1, (20, 21, 3)),
        (-1, (2, 12, 13, 14, 2)),
        (2, (2, 12, 3, 14)),
    ],
)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_layouts_are_those_of_arrays(axis: int | None, shape: tuple[int, ...], reduction: str) -> None:
    x, y = arrays(shape)
    value, grad = fused_ssim.array.value_and_grad(np.asarray(x), np.asarray(y), reduction=reduction, channel_axis=axis)
    found, pull = jax.vjp(lambda a: fused_ssim.jax.ssim(a, y, reduction=reduction, channel_axis=axis), x)
    np.testing.assert_allclose(found, value, rtol=1e-13)
    np.testing.assert_allclose(pull(jnp.ones_like(found))[0], grad, rtol=0, atol=1e-13 * float(abs(grad).max()))


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_volumes_may_have_a_window_for_each_axis(reduction: str) -> None:
    settings = {"window_size": (3, 7, 5), "sigma": (0.7, 2.0, 1.0), "padding": "reflect", "sample_covariance": True}
    x, y = arrays((2, 2, 9, 12, 11))
    value, pull = jax.vjp(lambda a, b: fused_ssim.jax.ssim(a, b, reduction=reduction, **settings), x, y)
    expected, *grads = oracle.ssim_and_grads(tensor(x), tensor(y), reduction=reduction, **settings)
    assert relative_error(tensor(value), expected) < 10 * VALUE[torch.float64]
    for found, wanted in zip(pull(jnp.ones_like(value)), grads, strict=True):
        assert relative_error(tensor(found), wanted) < GRADIENT[torch.float64]
    for single, name in ((3, "window_size"), (0.7, "sigma")):
        with pytest.raises(
            ValueError, match=rf"{name} has 2 values; expected one, or one for each of the axes D, H, W"
        ):
            fused_ssim.jax.ssim(x, y, **{name: (single, single)})


# ---- Integers, and the dtype of the arithmetic -----------------------------------------------------------------------


def integers(image: Any, dtype: torch.dtype) -> tuple[Any, float]:
    """An image in [0, 1] as integers, and what 1 stands for in them."""
    limits = torch.iinfo(dtype)
    return (image * limits.max).round().astype(str(dtype).removeprefix("torch.")), 1 / limits.max


INTEGER_CASES: list[dict[str, Any]] = [
    {},
    {"reduction": "none", "padding": "reflect"},
    {"lambda_dssim": 0.4, "reduction": "image", "mask": True},
    {"weights": (0.6, 0.4), "window_size": (5, 3)},
]


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("dtype", INTEGER_DTYPES, ids=readable)
@pytest.mark.parametrize("settings", INTEGER_CASES, ids=str)
def test_one_image_may_be_of_integers(settings: dict[str, Any], dtype: torch.dtype, which: int) -> None:
    """Its numbers times its scale are what the definition has; the other image has its gradient as ever."""
    settings = {"data_range": 1.0, **settings}
    images = list(arrays((2, 3, 24, 22)))
    images[which], scale = integers(images[which], dtype)
    if settings.pop("mask", False):
        settings["mask"] = jnp.asarray(np.random.default_rng(2).random((24, 22)))
    public = fused_ssim.jax.ms_ssim if "weights" in settings else fused_ssim.jax.ssim
    if "lambda_dssim" in settings:
        public = fused_ssim.jax.photometric_loss

    def value_of(*both: Any) -> Any:
        return public(*both, **settings, integer_scale=scale)

    def pulled(function: Callable[..., Any]) -> tuple[Any, Any]:
        floats = images[1 - which]
        value, pull = jax.vjp(lambda a: function(*((a, images[1]) if which else (images[0], a))), floats)
        return value, pull(random(value.shape))[0]

    value, grad = jax.jit(lambda: pulled(value_of))()
    expected, expected_grad = pulled(
        lambda *both: public(*(each * (scale if i == which else 1.0) for i, each in enumerate(both)), **settings)
    )
    assert relative_error(tensor(value), tensor(expected)) < 10 * VALUE[torch.float64]
    assert relative_error(tensor(grad), tensor(expected_grad)) < MASKED_GRADIENT[torch.float64]
    if not {"mask", "weights"} & set(settings):
        first, second = (tensor(each) * (scale if i == which else 1.0) for i, each in enumerate(images))
        values = oracle.objective_and_grads(first, second, **settings, upstream=tensor(random(value.shape)))
        assert relative_error(tensor(grad), values[2 - which]) < GRADIENT[torch.float64]
    # JAX has float0 for the derivative by integers.
    zero, again = jax.grad(lambda *both: value_of(*both).sum(), (which, 1 - which), allow_int=True)(*images)
    assert (zero.dtype, zero.shape, again.dtype) == (jax.dtypes.float0, images[which].shape, "float64")
    with pytest.raises(TypeError, match="grad requires real- or complex-valued inputs"):
        jax.grad(lambda *both: value_of(*both).sum(), which)(*images)


@pytest.mark.parametrize("second", INTEGER_DTYPES, ids=readable)
@pytest.mark.parametrize("first", INTEGER_DTYPES, ids=readable)
def test_both_images_may_be_of_integers(first: torch.dtype, second: torch.dtype) -> None:
    x, y = arrays((2, 1, 20, 22))
    (x, scale1), (y, scale2) = integers(x, first), integers(y, second)
    scales = (scale1, scale2)
    found = fused_ssim.jax.ssim(x, y, integer_scale=scales, data_range=1.0, reduction="image")
    assert found.dtype == "float32"
    on_host = np.asarray(x), np.asarray(y)
    expected = fused_ssim.array.value(*on_host, integer_scale=scales, data_range=1.0, reduction="image")
    np.testing.assert_allclose(found, expected, rtol=1e-6)  # a GPU adds in another order
    if first == second:  # then there is a default range
        full = {torch.uint8: 255}.get(first, 65535)
        value = fused_ssim.jax.ssim(x, y, reduction="none")
        expected = oracle.ssim_map(tensor(x), tensor(y), data_range=full)
        assert float(abs(tensor(value) - expected).max()) < MAP[torch.float32]
        ranges = jnp.array([float(full), full / 2])
        each = fused_ssim.jax.ssim(x, y, data_range=ranges, reduction="image")
        np.testing.assert_array_equal(each[0], fused_ssim.jax.ssim(x, y, reduction="image")[0])
    elif torch.uint8 in (first, second):
        with pytest.raises(ValueError, match="data_range is missing"):
            fused_ssim.jax.ssim(x, y)
    zeros = jax.grad(lambda a, b: fused_ssim.jax.ssim(a, b, data_range=255.0), (0, 1), allow_int=True)(x, y)
    assert [zero.dtype for zero in zeros] == [jax.dtypes.float0] * 2


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_integers_under_transformations(reduction: str) -> None:
    x, y = arrays((3, 2, 3, 20, 17))
    y, scale = integers(y, torch.uint8)

    def value_of(a: Any, b: Any) -> Any:
        return fused_ssim.jax.ssim(a, b, "reflect", integer_scale=scale, reduction=reduction).sum()

    expected = jnp.stack([jax.grad(value_of)(a, b) for a, b in zip(x, y, strict=True)])
    for function in (
        jax.vmap(jax.grad(value_of)),
        jax.jit(jax.vmap(lambda a, b: jax.grad(value_of, (0, 1), allow_int=True)(a, b)[0])),
        jax.grad(lambda a, b: jax.vmap(value_of)(a, b).sum()),
        jax.vmap(lambda a, b: jax.grad(lambda c: jax.checkpoint(value_of)(c, b))(a)),
    ):
        np.testing.assert_allclose(function(x, y), expected, rtol=0, atol=1e-14)
    shared = jax.vmap(jax.grad(value_of), in_axes=(0, None))(x, y[0])
    np.testing.assert_allclose(shared[0], expected[0], rtol=0, atol=1e-14)
    with pytest.raises(NotImplementedError, match="no second derivatives"):
        jax.grad(lambda a: (jax.grad(value_of)(a, y[0]) ** 2).sum())(x[0])


@pytest.mark.parametrize("mask", [False, True])
def test_float16_beside_integers_keeps_the_digits_of_its_gradient(mask: bool) -> None:
    x, y = arrays((2, 3, 200, 240), torch.float16)
    y, scale = integers(y, torch.uint8)
    more = {"mask": jnp.asarray(np.random.default_rng(1).random((200, 240)) < 0.7)} if mask else {}

    def gradient(a: Any, b: Any, **settings: Any) -> Any:
        return jax.grad(lambda c: 2.0**14 * fused_ssim.jax.ssim(c, b, **settings, **more))(a)

    found, expected = gradient(x, y, integer_scale=scale), gradient(x.astype("float64"), y * np.float64(scale))
    assert found.dtype == "float16"
    assert relative_error(tensor(found), tensor(expected)) < GRADIENT_SCALED[torch.float16]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8], ids=readable)
def test_arithmetic_may_be_float64(dtype: torch.dtype) -> None:
    x, y = arrays((2, 1, 24, 26), torch.float32 if dtype == torch.uint8 else dtype)
    scale = 1.0
    if dtype == torch.uint8:
        y, scale = integers(y, dtype)
    x64, y64 = x.astype("float64"), y.astype("float64") * scale
    mask = jnp.asarray(np.random.default_rng(2).random((24, 26)))  # of the dtype of the arithmetic
    settings = {"padding": "symmetric", "mask": mask}
    for reduction in ("mean", "channel", "none"):

        def both(a: Any, b: Any, reduction: str = reduction, **more: Any) -> Any:
            value, pull = jax.vjp(lambda c: fused_ssim.jax.ssim(c, b, reduction=reduction, **settings, **more), a)
            return value, pull(random(value.shape))[0]

        value, grad = both(x, y, arithmetic="float64", integer_scale=scale)
        expected, expected_grad = both(x64, y64)
        assert (value.dtype, grad.dtype) == ("float64", x.dtype)
        assert relative_error(tensor(value), tensor(expected)) < 10 * VALUE[torch.float64]
        rounding = FLOAT32_EPS if x.dtype == "float32" else BFLOAT16_EPS
        assert relative_error(tensor(grad), tensor(expected_grad)) <= 2 * rounding
    with pytest.raises(TypeError, match=r"mask.dtype = float32; expected bool or float64 for images of"):
        fused_ssim.jax.ssim(x, y, mask=mask.astype("float32"), arithmetic="float64")
    jax.config.update("jax_enable_x64", False)
    with pytest.raises(
        ValueError, match=r'arithmetic = .float64.; expected jax.config.update\("jax_enable_x64", True\)'
    ):
        fused_ssim.jax.ssim(x, y, arithmetic="float64")


# ---- Numbers that are hard to keep -----------------------------------------------------------------------------------


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("settings", [{}, {"mask": True}, {"data_range": True}], ids=str)
def test_float16_gradient_of_a_scaled_mean_keeps_its_digits(settings: dict[str, Any], batched: bool) -> None:
    """A loss scale is known only in backward, and without it the gradient of a mean is below the range of float16."""
    x, y = arrays((2, 3, 200, 240), torch.float16)
    mask = jnp.asarray(np.random.default_rng(1).random((200, 240)) < 0.7) if "mask" in settings else None
    ranges = jnp.array([1.0, 2.0], "float32") if "data_range" in settings else 1.0
    function = jax.grad(lambda a, b: 2.0**14 * fused_ssim.jax.ssim(a, b, mask=mask, data_range=ranges))
    found = jax.vmap(function)(x[None], y[None])[0] if batched else function(x, y)
    assert found.dtype == "float16"
    x64, y64 = x.astype("float64"), y.astype("float64")
    ranges64 = ranges if isinstance(ranges, float) else ranges.astype("float64")
    expected = jax.grad(lambda a: 2.0**14 * fused_ssim.jax.ssim(a, y64, mask=mask, data_range=ranges64))(x64)
    assert relative_error(tensor(found), tensor(expected)) < GRADIENT_SCALED[torch.float16]
    unscaled = (expected / 2.0**14).astype("float16").astype("float64") * 2.0**14
    assert relative_error(tensor(unscaled), tensor(expected)) > GRADIENT_SCALED[torch.float16]


@pytest.mark.parametrize("peak", [255.0, 65535.0])
def test_bright_images_of_large_ranges_keep_their_digits(peak: float) -> None:
    x, y = arrays((1, 2, 40, 44))
    x, y = (peak * (0.9 + 0.1 * image) for image in (x, y))
    x32, y32 = x.astype("float32"), y.astype("float32")
    value, grad = jax.value_and_grad(lambda a: fused_ssim.jax.ssim(a, y32, data_range=peak))(x32)
    expected, expected_grad, _ = oracle.ssim_and_grads(tensor(x32), tensor(y32), data_range=peak)
    assert abs(float(value) - float(expected)) < VALUE[torch.float32]
    assert relative_error(tensor(grad), expected_grad) < 10 * LEVELS["bright"]


def test_data_range_may_be_an_array_that_changes() -> None:
    x, y = arrays((3, 2, 20, 22))
    traces = []

    @jax.jit
    def function(first: Any, second: Any, ranges: Any) -> Any:
        traces.append(ranges)
        return jax.value_and_grad(lambda a: fused_ssim.jax.ssim(a, second, data_range=ranges, reduction="mean"))(first)

    for ranges in (jnp.array([1.0, 2.0, 5.0]), jnp.array([3.0, 0.5, 0.25])):
        value, grad = function(x, y, ranges)
        one = [
            fused_ssim.array.value_and_grad(*map(np.asarray, (x[i : i + 1], y[i : i + 1])), data_range=float(ranges[i]))
            for i in range(3)
        ]
        np.testing.assert_allclose(value, np.mean([each[0] for each in one]), rtol=1e-13)
        np.testing.assert_allclose(grad, np.concatenate([each[1] for each in one]) / 3, rtol=0, atol=1e-15)
    assert len(traces) == 1
    of_image = jax.jit(lambda a, b: fused_ssim.jax.ssim(a, b, data_range=jnp.maximum(a.max(), b.max()) - 0.0))(x, y)
    largest = float(max(x.max(), y.max()))
    np.testing.assert_allclose(of_image, fused_ssim.jax.ssim(x, y, data_range=largest), rtol=1e-14)


# ---- vmap ------------------------------------------------------------------------------------------------------------

VMAPPED: list[dict[str, Any]] = [
    *({"reduction": reduction} for reduction in REDUCTIONS),
    *({"reduction": reduction, "mask": (2, 1, 20, 17)} for reduction in ("mean", "sum", "channel")),
    *({"reduction": reduction, "ranges": (2,)} for reduction in ("mean", "sum", "none")),
    {"mask": (1, 3, 1, 17)},
    {"mask": (2, 3, 20, 17), "ranges": ()},
    {"mask": (2, 3, 20, 17), "ranges": (2,)},
    {"mask": (1, 1, 20, 17), "mask_mode": "normalized", "padding": "valid"},
    {"ranges": ()},
    *({"lambda_dssim": 0.3, "reduction": reduction} for reduction in ("mean", "sum", "image", "none")),
    {"lambda_dssim": 0.3, "reduction": "sum", "padding": "valid"},
    {"lambda_dssim": 0.3, "padding": "valid", "mask": (2, 1, 20, 17)},
    *({"weights": (0.6, 0.4), "reduction": reduction, "padding": "same"} for reduction in ("mean", "sum", "channel")),
]


# Which of the images, the mask and the data ranges differ between the calls.
BATCHED = [(True, True, True, True), (True, False, False, False), (False, True, True, False), (True, True, False, True)]


@pytest.mark.parametrize(("n", "layout"), [(1, "channels first"), (2, "channels last")])
@pytest.mark.parametrize("settings", VMAPPED, ids=str)
def test_batch_of_calls_is_each_call(settings: dict[str, Any], layout: str, n: int) -> None:
    """Whatever is batched: values, gradients of both images, and upstream gradients that differ between the calls."""
    settings = dict(settings)
    size = 3
    generator = np.random.default_rng(3)
    x, y = arrays((size, n, 3, 20, 17))
    mask_shape, range_shape = settings.pop("mask", None), settings.pop("ranges", None)
    mask = ranges = None
    if mask_shape is not None:
        mask = jnp.asarray(generator.random((size, min(n, mask_shape[0]), *mask_shape[1:])) + 0.1)
    if range_shape is not None:
        ranges = jnp.asarray(0.5 + generator.random((size, *(n for _ in range_shape))))
    axis = 1
    if layout == "channels last":
        x, y = jnp.moveaxis(x, 2, -1), jnp.moveaxis(y, 2, -1)
        mask = None if mask is None else jnp.moveaxis(mask, 2, -1)
        axis = -1
    public = fused_ssim.jax.ssim
    if "lambda_dssim" in settings:
        public = fused_ssim.jax.photometric_loss
    elif "weights" in settings:
        public = fused_ssim.jax.ms_ssim
        settings["window_size"] = 5

    def one(first: Any, second: Any, each_mask: Any, each_range: Any) -> Any:
        more = {} if each_mask is None else {"mask": each_mask}
        if each_range is not None:
            more["data_range"] = each_range
        return public(first, second, channel_axis=axis, **more, **settings)

    def with_gradients(first: Any, second: Any, each_mask: Any, each_range: Any, weight: Any) -> Any:
        value, pull = jax.vjp(lambda a, b: one(a, b, each_mask, each_range), first, second)
        return value, *pull(weight * (1 + value))

    weight = random((size,))
    everything = (x, y, mask, ranges)
    each = jax.jit(with_gradients)
    for batched in BATCHED:
        is_batched = [flag and array is not None for flag, array in zip(batched, everything, strict=True)]
        pairs = list(zip(is_batched, everything, strict=True))
        given = [array if flag or array is None else array[0] for flag, array in pairs]
        found = jax.vmap(with_gradients, in_axes=(*(0 if flag else None for flag in is_batched), 0))(*given, weight)
        for call in range(size):
            single = [array[call] if flag else array for flag, array in zip(is_batched, given, strict=True)]
            for at, (many, expected) in enumerate(zip(found, each(*single, weight[call]), strict=True)):
                bound = 1e-13 * max(1.0, float(abs(expected).max()))
                np.testing.assert_allclose(many[call], expected, rtol=0, atol=bound, err_msg=f"{batched} {at}")


def test_transformations_compose() -> None:
    x, y = arrays((2, 4, 1, 18, 19))
    x, y = x[:, :, None], y[:, :, None]
    expected = jnp.stack(
        [jnp.stack([fused_ssim.jax.ssim(a, b) for a, b in zip(*rows, strict=True)]) for rows in zip(x, y, strict=True)]
    )
    nested = jax.jit(jax.vmap(jax.vmap(fused_ssim.jax.ssim)))
    np.testing.assert_allclose(nested(x, y), expected, rtol=1e-14)
    grads = jax.vmap(jax.vmap(jax.grad(fused_ssim.jax.ssim)))(x, y)
    for outer in (
        jax.grad(lambda a, b: jax.jit(jax.vmap(jax.vmap(fused_ssim.jax.ssim)))(a, b).sum()),
        jax.jit(jax.vmap(jax.grad(lambda a, b: jax.vmap(jax.jit(fused_ssim.jax.ssim))(a, b).sum()))),
        jax.vmap(jax.jit(jax.vmap(jax.grad(jax.jit(fused_ssim.jax.ssim))))),
    ):
        np.testing.assert_allclose(outer(x, y), grads, rtol=0, atol=1e-16)
    for axes in ((1, 2), (2, 0)):  # the batch may be any axis
        moved = [jnp.moveaxis(array[0], 0, axis) for array, axis in zip((x, y), axes, strict=True)]
        np.testing.assert_allclose(jax.vmap(fused_ssim.jax.ssim, in_axes=axes)(*moved), expected[0], rtol=1e-14)


# ---- What has no derivative ------------------------------------------------------------------------------------------


def test_second_derivatives_are_an_error_and_first_ones_beside_them_are_not() -> None:
    x, y = arrays((1, 1, 16, 17))
    for reduction in ("mean", "none"):
        function = lambda a, b, r=reduction: fused_ssim.jax.ssim(a, b, reduction=r).mean()  # noqa: E731
        for wrap in (lambda f: f, jax.jit, lambda f: lambda a, b: jax.vmap(f)(a[None], b[None])[0]):
            gradient = wrap(jax.grad(function))
            with pytest.raises(NotImplementedError, match="no second derivatives"):
                jax.grad(lambda a, g=gradient: (g(a, y) ** 2).sum())(x)
            stopped = jax.grad(lambda a, g=gradient, f=function: f(a, y) + (a * jax.lax.stop_gradient(g(a, y))).sum())(
                x
            )
            np.testing.assert_allclose(stopped, 2 * jax.grad(function)(x, y), rtol=1e-12, atol=1e-17)
        for argnums in (0, 1):  # the value of value_and_grad, differentiated by the image of the gradient and the other
            inner = lambda a, b, f=function: jax.value_and_grad(f)(a, b)[0]  # noqa: E731
            expected = jax.grad(function, argnums)(x, y)
            np.testing.assert_allclose(jax.grad(inner, argnums)(x, y), expected, rtol=0, atol=1e-17)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda a: fused_ssim.jax.ssim(a, y), (x,), (x,))


def test_masks_and_ranges_are_constants() -> None:
    x, y = arrays((2, 1, 16, 17))
    mask = jnp.ones((16, 17))
    with pytest.raises(ValueError, match=r"mask is differentiated; expected a constant.*stop_gradient\(mask\)"):
        jax.grad(lambda m: fused_ssim.jax.ssim(x, y, mask=m))(mask)
    with pytest.raises(ValueError, match="data_range is differentiated; expected a constant"):
        jax.grad(lambda r: fused_ssim.jax.ssim(x, y, data_range=r))(jnp.array([1.0, 2.0]))
    weighed = jax.grad(lambda a: fused_ssim.jax.ssim(a, y, mask=jax.lax.stop_gradient(a[:, :, :1]), reduction="sum"))(x)
    np.testing.assert_array_equal(
        weighed, jax.grad(lambda a: fused_ssim.jax.ssim(a, y, mask=x[:, :, :1], reduction="sum"))(x)
    )
    both = jax.grad(lambda a, m: fused_ssim.jax.ssim(a, y, mask=m), (0, 1), allow_int=True)(x, mask > 0)
    assert both[1].dtype == jax.dtypes.float0
    inside = jax.grad(lambda a: fused_ssim.jax.ssim(a, y, mask=a > 0.5))(x)  # a mask of bool has no derivative
    np.testing.assert_array_equal(inside, jax.grad(lambda a: fused_ssim.jax.ssim(a, y, mask=x > 0.5))(x))
