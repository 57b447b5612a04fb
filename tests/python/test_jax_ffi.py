# SPDX-License-Identifier: MIT
"""`fused_ssim.jax` as programs of XLA: what is compiled, when, and how the handlers fit XLA's interface.

On the CPU.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import fused_ssim
import fused_ssim._core as core
from fused_ssim._base.codes import DEVICES
from fused_ssim._base.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

jax = pytest.importorskip("jax", minversion="0.6")
jnp = jax.numpy

from fused_ssim.jax import _call, _native  # noqa: E402 - where JAX is

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _on_the_cpu() -> Iterator[None]:
    with jax.default_device(jax.devices("cpu")[0]):
        yield


def images(shape: tuple[int, ...] = (2, 3, 24, 26), seed: int = 0) -> tuple[Any, Any]:
    generator = np.random.default_rng(seed)
    return tuple(jnp.asarray(generator.random(shape, np.float32)) for _ in range(2))  # type: ignore[return-value]


def run(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- Programs --------------------------------------------------------------------------------------------------------


def operations(function: Any, *arguments: Any) -> list[str]:
    """The operations of a compiled program, without its parameters and the taking apart of tuples."""
    text = jax.jit(function).lower(*arguments).compile().as_text()
    found = re.findall(r"^ +(?:ROOT )?%\S+ = (?:\([^=]*?\)|\S+) ([\w-]+)\(", text, re.MULTILINE)
    return [name for name in found if name not in ("parameter", "get-tuple-element", "tuple", "bitcast")]


def test_value_and_gradient_are_one_operation() -> None:
    x, y = images()
    assert operations(jax.value_and_grad(fused_ssim.jax.ssim), x, y) == ["custom-call"]
    assert operations(jax.value_and_grad(fused_ssim.jax.photometric_loss, (0, 1)), x, y) == ["custom-call"]
    assert operations(lambda a, b: fused_ssim.jax.ssim(a, b, channel_axis=-1), x, y) == ["custom-call"]
    assert operations(lambda a, b: fused_ssim.jax.ssim(a[0], b[0], channel_axis=0), x[:1], y[:1]) == ["custom-call"]


def test_batch_of_calls_is_one_operation() -> None:
    x, y = images((4, 1, 3, 24, 26))
    assert operations(jax.vmap(jax.grad(fused_ssim.jax.ssim)), x, y).count("custom-call") == 1
    assert "while" not in operations(jax.vmap(jax.grad(fused_ssim.jax.ssim)), x, y)


def test_program_for_cuda_has_a_workspace_of_the_size_that_the_library_says() -> None:
    """It is compiled without a GPU, up to the code of XLA itself."""
    x, y = images()
    traced = jax.jit(jax.value_and_grad(fused_ssim.jax.ssim)).trace(x, y)
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("stablehlo.custom_call @fused_ssim_value_and_grad") == 1
    settings = core.Settings()
    image = core.Layout(dtype=core.FLOAT32, shape=x.shape, stride=(1872, 624, 26, 1))
    value = core.Layout(dtype=core.FLOAT32, shape=(), stride=())
    layouts = core.Images(x=image, y=image, grad_x=image, grad_y=image, out=value, mask=None, data_ranges=None)
    try:
        plan = core.Plan(device=core.CUDA, device_index=0, settings=settings, images=layouts, grads=core.GRAD_X)
    except NotImplementedError:
        assert "xui8>" not in text  # a build without CUDA
    else:
        assert plan.value_and_grad_workspace > 0
        assert f"tensor<{plan.value_and_grad_workspace}xui8>" in text
    assert "xui8>" not in traced.lower(lowering_platforms=("cpu",)).as_text()


def test_other_platforms_are_an_error() -> None:
    x, y = images()
    with pytest.raises(NotImplementedError, match="not found for platform tpu"):
        jax.jit(fused_ssim.jax.ssim).trace(x, y).lower(lowering_platforms=("tpu",))


def test_equal_settings_are_compiled_once() -> None:
    x, y = images()
    function = fused_ssim.jax.photometric_loss
    function(x, y, 0.25, data_range=2.0, K=(0.01, 0.03))
    before = _call._ssim._cache_size()
    function(x, y, 0.25, data_range=2, K=[0.01, 0.03])
    function(y, x, lambda_dssim=0.25, data_range=np.float64(2), window_size=11)
    function(x, y, 0.25, data_range=2.0, channel_axis=np.int64(1))
    assert _call._ssim._cache_size() == before
    function(x, y, 0.25, data_range=3.0)
    assert _call._ssim._cache_size() == before + 1
    for ranges in (jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0])):
        function(x, y, 0.25, data_range=ranges)
    assert _call._ssim._cache_size() == before + 2


def test_handlers_are_told_every_setting() -> None:
    """And read each: they refuse a program with an attribute that they did not ask for."""
    settings = Settings(taps=(0.25, 0.5, 0.25), window_size=(3,), data_range=1.0, lambda_dssim=0.5, weights=(1.0,))
    told = set(_native._attributes(settings))
    fields = {name for name in dir(core.Settings) if not name.startswith("_")}
    assert told == (fields - {"names"}) | {"name1", "name2"}
    x, y = images()
    attributes = {
        **_native._attributes(Settings(sigma=(1.0,), data_range=1.0)),
        "channel_axis": np.int32(1),
        "has_mask": False,
        "has_ranges": False,
        "grads": np.int32(0),
        "grad_scale": np.float64(1),
    }
    call = jax.ffi.ffi_call("fused_ssim_forward", jax.ShapeDtypeStruct((), "float32"))
    np.testing.assert_array_equal(call(x, y, **attributes), fused_ssim.jax.ssim(x, y, sigma=1.0))
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("the number of attributes", {**attributes, "another": np.int32(1)}),
        ("attribute sigma", {name: value for name, value in attributes.items() if name != "sigma"}),
        ("attribute sigma", {**attributes, "sigma": np.array([2], np.float32)}),
        ("attribute window_size", {**attributes, "window_size": np.int32(11)}),
        ("attribute sample_covariance", {**attributes, "sample_covariance": True}),
        ("the number of arrays", {**attributes, "has_mask": True}),
        ("the axis of the channels", {**attributes, "channel_axis": np.int32(4)}),
        ("the number of taps is not that of window_size", {**attributes, "taps": np.ones(3)}),
        ("window_size has 3 numbers; expected 1 or 2", {**attributes, "window_size": np.int32([3, 3, 3])}),
        ("sigma has 0 numbers; expected 1 or 2", {**attributes, "sigma": np.zeros(0)}),
        ("the number of scales", {**attributes, "integer_scale": np.ones(1)}),
    ]
    for text, bad in wrong:
        with pytest.raises(Exception, match=f"fused_ssim: {text}"):
            jax.block_until_ready(call(x, y, **bad))
    with pytest.raises(Exception, match="fused_ssim: dtype"):
        jax.block_until_ready(call(x.astype(int), y, **attributes))
    with pytest.raises(Exception, match="fused_ssim: the number of axes"):
        jax.block_until_ready(call(x[None, None], y, **attributes))


def test_program_can_be_exported() -> None:
    from jax import export

    x, y = images()
    allowed = [export.DisabledSafetyCheck.custom_call("fused_ssim_value_and_grad")]
    exported = export.export(jax.jit(jax.value_and_grad(fused_ssim.jax.ssim)), disabled_checks=allowed)(x, y)
    value, grad = exported.call(x, y)
    expected, expected_grad = jax.jit(jax.value_and_grad(fused_ssim.jax.ssim))(x, y)
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_array_equal(grad, expected_grad)


# ---- Calls -----------------------------------------------------------------------------------------------------------


def test_calls_of_many_threads_are_independent() -> None:
    function = jax.jit(jax.value_and_grad(fused_ssim.jax.ssim))
    pairs = [images((1, 3, 40 + seed % 3, 50), seed) for seed in range(12)]
    expected = [function(*pair) for pair in pairs]

    def many(index: int) -> bool:
        with jax.default_device(jax.devices("cpu")[0]):  # which is a thread's own
            found = [function(*pairs[index]) for _ in range(10)]
        return all(
            np.array_equal(value, expected[index][0]) and np.array_equal(grad, expected[index][1])
            for value, grad in found
        )

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(many, range(12)))


def test_donated_buffers_are_used_and_right() -> None:
    x, y = images((2, 3, 64, 66))
    gradient = jax.grad(fused_ssim.jax.ssim)
    step = jax.jit(lambda a, b: a + 0.5 * gradient(a, b), donate_argnums=0)
    expected = np.asarray(x) + 0.5 * np.asarray(jax.jit(gradient)(x, y))
    given = x + 0
    found = step(given, y)
    assert given.is_deleted()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)
    only = jax.jit(gradient, donate_argnums=0)  # the gradient may lie where the image was
    np.testing.assert_array_equal(only(x + 0, y), jax.jit(gradient)(x, y))


BAD: list[tuple[type[Exception], str, Any]] = [
    (ValueError, r"img1.shape = \(2, 3, 24, 26\) but img2.shape = \(2, 3, 24, 25\)", lambda x, y: (x, y[..., 1:])),
    (TypeError, "img1.dtype = float32 but img2.dtype = float16", lambda x, y: (x, y.astype("float16"))),
    (TypeError, "img1.dtype = int32; expected float32", lambda x, y: (x.astype(int), y.astype(int))),
    (TypeError, "img1.dtype = complex64, but SSIM is defined for real images", lambda x, y: (x * 1j, y * 1j)),
    (TypeError, "img2 is of type list; expected an array of JAX or NumPy", lambda x, y: (x, y.tolist())),
    (TypeError, "img1 is of type float; expected an array of JAX or NumPy", lambda x, y: (float(x[0, 0, 0, 0]), y)),
    (TypeError, "img1 is a masked array", lambda x, y: (np.ma.masked_array(np.asarray(x)), y)),
    (ValueError, r"img1.shape = \(3, 24, 26\) has 3 axes", lambda x, y: (x[0], y[0])),
    (ValueError, r"img1.shape\[0\] = 0, expected at least 1", lambda x, y: (x[:0], y[:0])),
]


@pytest.mark.parametrize(("error", "text", "change"), BAD, ids=[text[:30] for _, text, _ in BAD])
def test_bad_images_are_errors_before_anything_runs(error: type[Exception], text: str, change: Any) -> None:
    arguments = change(*images())
    with pytest.raises(error, match=text):
        fused_ssim.jax.ssim(*arguments)
    if all(isinstance(argument, jax.Array) for argument in arguments) and arguments[0].dtype == "float32":
        with pytest.raises(error, match=text):
            jax.jit(jax.value_and_grad(fused_ssim.jax.ssim))(*arguments)


SETTINGS: list[tuple[type[Exception], str, dict[str, Any]]] = [
    (ValueError, "window_size = 4, expected an odd number", {"window_size": 4}),
    (ValueError, "sigma = -1, expected a positive number", {"sigma": -1.0}),
    (ValueError, r"window_size\[1\] = 4, expected an odd number", {"window_size": (3, 4)}),
    (
        ValueError,
        "window_size has 3 values; expected one, or one for each of the axes H, W",
        {"window_size": (3, 3, 3)},
    ),
    (ValueError, "taps has windows of", {"taps": [0.25, 0.5, 0.25], "window_size": 5}),
    (ValueError, "taps.* expected", {"taps": [0.25, 0.25, 0.25]}),
    (ValueError, "sample_covariance = True with a window of one pixel", {"sample_covariance": True, "window_size": 1}),
    (ValueError, "integer_scale = 0, expected a positive number", {"integer_scale": 0}),
    (ValueError, "arithmetic = 'float32'; expected one of", {"arithmetic": "float32"}),
    (ValueError, 'padding = "reflex"; expected one of'.replace('"', "'"), {"padding": "reflex"}),
    (ValueError, r"img1.shape\[2\] = 24 < window 25", {"padding": "valid", "window_size": 25}),
    (ValueError, "channel_axis = 7; expected 1 to 3", {"channel_axis": 7}),
    (TypeError, "channel_axis = 1.5; expected an integer", {"channel_axis": 1.5}),
    (ValueError, r"mask.shape = \(24, 25\); expected", {"mask": np.ones((24, 25), np.float32)}),
    (TypeError, "mask.dtype = int32; expected bool or float32", {"mask": np.ones((24, 26), np.int32)}),
    (ValueError, r"data_range.shape = \(3,\)", {"data_range": np.ones(3, np.float32)}),
]


@pytest.mark.parametrize(("error", "text", "settings"), SETTINGS, ids=[text[:30] for _, text, _ in SETTINGS])
def test_bad_settings_are_errors_when_a_call_is_traced(
    error: type[Exception], text: str, settings: dict[str, Any]
) -> None:
    x, y = images()
    with pytest.raises(error, match=text):
        jax.eval_shape(lambda a, b: fused_ssim.jax.ssim(a, b, **settings), x, y)
    with pytest.raises(TypeError, match=r"sigma = .*; expected a number"):
        jax.jit(lambda sigma: fused_ssim.jax.ssim(x, y, sigma=sigma))(1.5)


def test_what_only_the_device_sees_is_an_error_of_the_program() -> None:
    x, y = images()
    with pytest.raises(Exception, match=r"data_range\[1\] = -1, expected a positive number"):
        jax.block_until_ready(fused_ssim.jax.ssim(x, y, data_range=jnp.array([1.0, -1.0])))
    with pytest.raises(Exception, match="mask has an element that is negative"):
        jax.block_until_ready(fused_ssim.jax.ssim(x, y, mask=-jnp.ones((24, 26))))


def test_sharded_images_are_gathered() -> None:
    run(
        """
import jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
import fused_ssim.jax
mesh = jax.sharding.Mesh(np.array(jax.devices()), ("n",))
x, y = np.random.default_rng(0).random((2, 4, 1, 20, 22), np.float32)
there = NamedSharding(mesh, PartitionSpec("n"))
step = jax.jit(jax.value_and_grad(fused_ssim.jax.ssim))
value, grad = step(*(jax.device_put(each, there) for each in (x, y)))
expected, expected_grad = step(x, y)
assert value == expected
assert np.array_equal(grad, expected_grad)
if hasattr(jax, "shard_map"):  # there each device has its own images, and they stay there
    spec = PartitionSpec("n")
    each = lambda a, b: fused_ssim.jax.ssim(a, b, reduction="image")
    apart = jax.shard_map(each, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    step = jax.jit(jax.grad(lambda a, b: apart(a, b).mean()))
    shards = [jax.device_put(each, there) for each in (x, y)]
    assert np.allclose(step(*shards), expected_grad, rtol=0, atol=1e-8)
    assert "all-gather" not in step.lower(*shards).compile().as_text()
""",
        XLA_FLAGS="--xla_force_host_platform_device_count=2",
    )


# ---- The module ------------------------------------------------------------------------------------------------------


def test_without_jax_an_import_says_what_to_install_and_all_else_works() -> None:
    run("""
import sys
sys.modules["jax"] = None  # to import it now is an ImportError
import numpy
import fused_ssim
x = numpy.zeros((1, 1, 12, 12))
assert fused_ssim.array.value(x, x) == 1
try:
    fused_ssim.jax
except ImportError as error:
    assert 'pip install "fused-ssim[jax]"' in str(error)
else:
    raise AssertionError
""")


def test_old_jax_is_an_import_error() -> None:
    run("""
import sys, types
old = types.ModuleType("jax")
old.__version__, old.__version_info__ = "0.4.30", (0, 4, 30)
sys.modules["jax"] = old
try:
    import fused_ssim.jax
except ImportError as error:
    assert "needs JAX 0.6 or later, but 0.4.30 is installed" in str(error)
else:
    raise AssertionError
""")


def test_module_can_be_imported_again_and_needs_no_torch() -> None:
    run("""
import sys
sys.modules["torch"] = None
import jax.numpy as jnp
import fused_ssim.jax
x = jnp.ones((1, 1, 12, 12))
assert fused_ssim.jax.ssim(x, x) == 1
for name in [name for name in sys.modules if name.startswith("fused_ssim")]:
    del sys.modules[name]
import fused_ssim.jax
assert fused_ssim.jax.ssim(x, x * 0.5) < 1
""")


def test_every_device_has_handlers() -> None:
    assert set(_native.PLATFORMS) == set(DEVICES)
    assert set(core.XLA_HANDLERS) == {"forward", "value_and_grad", "backward"}
    for handlers in core.XLA_HANDLERS.values():
        assert set(handlers) == set(DEVICES)


def test_our_declarations_have_the_layout_of_the_installed_header(tmp_path: Path) -> None:
    """src/cpp/python/xla_ffi.h against jaxlib's xla/ffi/api/c_api.h: where they differ, the check does not compile."""
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    check = ROOT / "tests" / "cpp" / "xla_ffi_check.cpp"
    folders = [jax.ffi.include_dir(), str(ROOT / "src" / "cpp" / "python")]
    assert (Path(folders[0]) / "xla" / "ffi" / "api" / "c_api.h").is_file()
    command = [compiler, "-std=c++17", "-fsyntax-only", *(f"-I{folder}" for folder in folders), str(check)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
