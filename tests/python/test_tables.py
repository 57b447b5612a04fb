# SPDX-License-Identifier: MIT
"""Decisions that stand in one place and are needed in several: a forgotten place fails here."""

from __future__ import annotations

import ast
import inspect
import re
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from images import FLOAT_DTYPES, INTEGER_DTYPES

import fused_ssim
import fused_ssim._core as core
from fused_ssim._base import codes, shapes
from fused_ssim._base.settings import (
    NOT_NATIVE,
    SCHEMA,
    Settings,
    checked_settings,
    for_dtypes,
    native_settings,
    pack,
    unpack,
)
from fused_ssim._torch import checks, composite, devices
from fused_ssim.array import _libraries

HEADERS = Path(__file__).parents[2] / "include" / "fusedssim"
FIELDS = {field.name: field for field in fields(Settings)}
NATIVE_FIELDS = set(FIELDS) - set(NOT_NATIVE)

# Public names that take settings, and how to call them with one setting.
X = torch.zeros(1, 1, 12, 12)
CALLS = {
    "fused_ssim": lambda **setting: fused_ssim.fused_ssim(X, X, **setting),
    "fused_ssim2d": lambda **setting: fused_ssim.fused_ssim2d(X, X, **setting),
    "fused_ssim3d": lambda **setting: fused_ssim.fused_ssim3d(X[None], X[None], **setting),
    "value_and_grad": lambda **setting: fused_ssim.value_and_grad(X, X, **setting),
    "value_map_and_grad": lambda **setting: fused_ssim.value_map_and_grad(X, X, **setting),
    "ssim_map": lambda **setting: fused_ssim.ssim_map(X, X, **setting),
    "ssim_db": lambda **setting: fused_ssim.ssim_db(X, X, **setting),
    "ssim_terms": lambda **setting: fused_ssim.ssim_terms(X, X, **setting),
    "photometric_loss": lambda **setting: fused_ssim.photometric_loss(X, X, **setting),
    "PhotometricLoss": lambda **setting: fused_ssim.PhotometricLoss(**setting),
    "SSIMLoss": lambda **setting: fused_ssim.SSIMLoss(**setting),
    "MSSSIMLoss": lambda **setting: fused_ssim.MSSSIMLoss(**setting),
    "array.value": lambda **setting: fused_ssim.array.value(X.numpy(), X.numpy(), **setting),
    "array.map": lambda **setting: fused_ssim.array.map(X.numpy(), X.numpy(), **setting),
    "array.value_and_grad": lambda **setting: fused_ssim.array.value_and_grad(X.numpy(), X.numpy(), **setting),
    **{
        f"array.{name}": lambda name=name, **setting: getattr(fused_ssim.array, name)(X.numpy(), X.numpy(), **setting)
        for name in (
            "photometric_loss",
            "photometric_loss_and_grad",
            "ms_ssim",
            "ms_ssim_and_grad",
            "value_map_and_grad",
            "decibels",
        )
    },
    **{
        f"jax.{name}": lambda name=name, **setting: getattr(fused_ssim.jax, name)(X.numpy(), X.numpy(), **setting)
        for name in ("ssim", "photometric_loss", "ms_ssim")
    },
    "distributed.sharded_ssim": lambda **setting: fused_ssim.distributed.sharded_ssim(X, X, **setting),
    "distributed.sharded_photometric_loss": lambda **setting: fused_ssim.distributed.sharded_photometric_loss(
        X, X, **setting
    ),
    "metrics.SSIMMetric": lambda **setting: fused_ssim.metrics.SSIMMetric(**setting),
    "metrics.MSSSIMMetric": lambda **setting: fused_ssim.metrics.MSSSIMMetric(**setting),
}


def parameters(name):
    if name.startswith(("jax", "metrics")):
        pytest.importorskip("jax" if name.startswith("jax") else "torchmetrics")
    public = fused_ssim
    for part in name.split("."):
        public = getattr(public, part)
    taken = inspect.signature(public).parameters
    return public, {key: taken[key] for key in taken if key in FIELDS or key in ("K", "mask_mode")}


# ---- Settings --------------------------------------------------------------------------------------------------------


def test_native_settings_have_the_fields_of_settings():
    assert {name for name in dir(core.Settings) if not name.startswith("_")} == NATIVE_FIELDS


def test_native_settings_hold_what_settings_say():
    settings = checked_settings(
        padding="valid",
        reduction="channel",
        window_size=(3, 5),
        sigma=(2.0, 1.0),
        K=(0.3, 0.4),
        data_range=5.0,
        mask_mode="normalized",
        lambda_dssim=0.5,
        taps=((0.25, 0.5, 0.25), (0.0, 0.25, 0.5, 0.25, 0.0)),
        sample_covariance=True,
        arithmetic="float64",
        integer_scale=(0.5, 2.0),
        float32_window=True,
        weights=(0.75, 0.25),
        backend="torch",
        names=("a", "b"),
    )
    assert all(getattr(settings, name) != field.default for name, field in FIELDS.items())
    native = native_settings(settings)
    expected = {name: getattr(settings, name) for name in NATIVE_FIELDS}
    expected.update(padding=core.PADDING_VALID, reduction=core.REDUCTION_PER_PLANE, arithmetic=core.FLOAT64)
    for name, value in expected.items():
        found = getattr(native, name)
        assert (tuple(found) if isinstance(found, list) else found) == value, name
    assert all(getattr(unpack(pack(settings)), name) == getattr(settings, name) for name in set(FIELDS) - {"names"})


def test_native_defaults_are_those_of_settings():
    native, default = core.Settings(), native_settings(for_dtypes(Settings(), "float32", "float32"))
    assert {name: getattr(native, name) for name in NATIVE_FIELDS} == {
        name: getattr(default, name) for name in NATIVE_FIELDS
    }


def test_operators_take_every_setting():
    assert [part.split()[1] for part in SCHEMA.split(", ")] == [name for name in FIELDS if name != "names"]
    for operator in ("ssim", "ssim_value_and_grad", "ssim_backward"):
        taken = getattr(torch.ops.fused_ssim, operator).default._schema.arguments
        assert [argument.name for argument in taken][-len(FIELDS) + 1 :] == [name for name in FIELDS if name != "names"]


def test_every_setting_is_documented():
    text = inspect.getdoc(Settings)
    assert text is not None
    for name in FIELDS:
        assert f"\n    {name}: " in text


@pytest.mark.parametrize("name", CALLS)
def test_public_defaults_are_those_of_settings(name):
    default = Settings()
    _, taken = parameters(name)
    for key, parameter in taken.items():
        if key == "K":
            assert parameter.default == (default.k1, default.k2)
        elif key == "mask_mode":
            assert parameter.default == "weight"
        elif key == "lambda_dssim":
            assert parameter.default == 0.2
        elif key == "padding":
            assert parameter.default == ("valid" if "MSSSIM" in name or "ms_ssim" in name else default.padding)
        elif key in ("window_size", "sigma"):  # one number for all axes
            assert (parameter.default,) == getattr(default, key), key
        elif key == "integer_scale":  # one number for both images
            assert (parameter.default,) * 2 == default.integer_scale
        else:
            assert parameter.default == getattr(default, key), key


@pytest.mark.parametrize("name", CALLS)
def test_public_functions_pass_on_every_setting(name):
    _, taken = parameters(name)
    common = {"padding", "window_size", "sigma", "taps", "sample_covariance", "data_range", "integer_scale", "K"}
    assert common | {"arithmetic"} <= set(taken)
    for key in taken:
        with pytest.raises((TypeError, ValueError), match=rf"{key} = "):
            CALLS[name](**{key: object()})


@pytest.mark.parametrize("name", CALLS)
def test_public_functions_document_every_argument(name):
    public, _ = parameters(name)
    documentation = inspect.getdoc(public)
    assert documentation
    if "\nArgs:\n" in documentation:
        for key in inspect.signature(public).parameters:
            assert re.search(rf"^    \**{key}: ", documentation, re.MULTILINE), key


# ---- Names and codes -------------------------------------------------------------------------------------------------


def header(name):
    """A header without its comments."""
    text = (HEADERS / name).read_text(encoding="utf-8")
    return re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL)


def test_every_value_of_the_header_has_a_name_in_python():
    kinds = {
        "padding": set(codes.PADDINGS.values()),
        "reduction": {row.code for row in codes.REDUCTIONS.values()},
        "dtype": {row.code for row in codes.DTYPES.values()} | set(codes.MASK_DTYPES.values()),
        "device": set(codes.DEVICES.values()),
        "grads": {0, codes.GRAD_1, codes.GRAD_2},
    }
    text = header("fusedssim.h")
    for kind, known in kinds.items():
        values = re.search(rf"typedef u?int32_t fusedssim_{kind};\s*enum {{(.*?)}}", text, re.DOTALL)
        assert values is not None, kind
        assert {int(value) for value in re.findall(r"= (\d+)", values.group(1))} == known, kind


def test_wrapper_for_cpp_has_every_value_and_setting_of_the_header():
    text, wrapper = header("fusedssim.h"), header("fusedssim.hpp")
    values = set(re.findall(r"(FUSEDSSIM_\w+) = \d", text)) - {"FUSEDSSIM_CPU"}  # that is FUSEDSSIM_EXEC_DEFAULT
    assert not values - set(re.findall(r"FUSEDSSIM_\w+", wrapper))
    params = re.search(r"typedef struct fusedssim_params {(.*?)}", text, re.DOTALL)
    assert params is not None
    members = set(re.findall(r"(\w+)(?=[;,])", params.group(1))) - {"struct_size", "reserved"}
    assert not members - set(re.findall(r"\.(\w+)", wrapper))


def test_type_stubs_have_the_names_of_the_native_module():
    stubs = Path(fused_ssim.__file__).parent / "_core.pyi"
    known = set()
    for node in ast.parse(stubs.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.AnnAssign):
            known.add(ast.unparse(node.target))
        elif isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            known.add(node.name)
    assert known == {name for name in dir(core) if not name.startswith("_")}


def test_limits_are_those_of_the_native_library():
    taps = core.MAX_WINDOW_SIZE
    x = torch.rand(1, 1, taps, taps)
    fused_ssim.fused_ssim(x, x, window_size=taps)
    with pytest.raises(ValueError, match=f"window_size = {taps + 2}, expected an odd number from 1 to {taps}"):
        fused_ssim.fused_ssim(x, x, window_size=taps + 2)
    fused_ssim.MSSSIMLoss("same", weights=[0.1] * core.MAX_LEVELS)(x, x)
    with pytest.raises(ValueError, match=f"expected at most {core.MAX_LEVELS}"):
        fused_ssim.MSSSIMLoss("same", weights=[0.1] * (core.MAX_LEVELS + 1))(x, x)


def test_every_padding_has_a_border_of_plain_operations():
    assert set(composite.BORDERS) == set(codes.PADDINGS)
    assert set(fused_ssim.allowed_padding) < set(codes.PADDINGS)


@pytest.mark.parametrize("reduction", codes.REDUCTIONS)
@pytest.mark.parametrize("padding", codes.PADDINGS)
def test_plain_operations_know_every_choice(padding, reduction):
    x, y = torch.rand(2, 2, 3, 12, 13, dtype=torch.float64)
    settings = checked_settings(padding=padding, reduction=reduction)
    expected = fused_ssim.fused_ssim(x, y, padding, reduction=reduction)
    torch.testing.assert_close(composite.ssim(x, y, None, None, settings), expected)
    assert expected.shape == shapes.out_shape(settings, x.shape)


# ---- Dtypes and devices ----------------------------------------------------------------------------------------------


def test_tests_know_every_dtype():
    assert set(checks.GRADIENT) == set(FLOAT_DTYPES)
    assert set(checks.DTYPES) == {*FLOAT_DTYPES, *INTEGER_DTYPES}


@pytest.mark.parametrize("dtype", checks.DTYPES, ids=str)
def test_value_and_gradient_have_the_dtypes_of_the_table(dtype):
    x = torch.rand(1, 1, 12, 12).to(dtype)
    if dtype in INTEGER_DTYPES:
        assert fused_ssim.ssim_map(x, x).dtype == torch.float32
        with pytest.raises(TypeError, match=r"img1.dtype = .* has no gradient"):
            fused_ssim.value_and_grad(x, x)
        return
    value, grad = fused_ssim.value_and_grad(x, x)
    assert (value.dtype, grad.dtype) == (checks.ARITHMETIC[dtype], checks.GRADIENT[dtype])


def test_every_device_is_known_to_torch_and_to_arrays():
    assert set(devices.DEVICES) == set(codes.DEVICES)
    assert {kind: row.code for kind, row in devices.DEVICES.items()} == codes.DEVICES
    for kind in codes.DEVICES:
        assert torch.device(kind).type == kind
        assert str(_libraries.Device(kind, 0))


@pytest.mark.parametrize("kind", codes.DEVICES)
def test_native_library_knows_every_device(kind):
    image = core.Layout(dtype=core.FLOAT32, shape=(1, 1, 12, 12), stride=(144, 144, 12, 1))
    value = core.Layout(dtype=core.FLOAT32, shape=(), stride=())
    images = core.Images(x=image, y=image, grad_x=image, grad_y=image, out=value, mask=None, data_ranges=None)
    with suppress(RuntimeError):  # this build lacks the device
        core.Plan(device=codes.DEVICES[kind], device_index=0, settings=core.Settings(), images=images, grads=0)
