# SPDX-License-Identifier: MIT
"""Plain operations of torch in place of the native library: on devices that it does not know, and where asked for.

``nox -s plain`` runs the tests of values once more, all of them by plain operations; here is a selection.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import oracle
import pytest
import torch
from images import absolute_error, hard_case, independent_pair, pair, readable, relative_error, relative_norm_error
from systems import needs_compiler
from tolerances import HARD_CASE
from torch.utils._python_dispatch import TorchDispatchMode

import fused_ssim
from fused_ssim._base import backends
from fused_ssim._base.settings import checked_settings
from fused_ssim._torch import plain_filters, plan
from fused_ssim._torch.plain_plan import PlainPlan

F32 = torch.float32
# What was promised: of values, and of gradients relative to their largest element.
VALUE, GRADIENT = 1e-6, 1e-5

SHAPES = [
    (1, 1, 1, 1),
    (1, 2, 1, 30),
    (2, 3, 5, 9),
    (1, 1, 11, 12),
    (3, 2, 31, 33),
    (30, 40, 2, 3),
    (1, 1, 263, 269),
    (1, 1, 1, 1, 1),
    (2, 3, 5, 7, 9),
    (1, 2, 13, 21, 33),
    (1, 1, 64, 12, 12),
]
CASES = [
    (shape, padding) for shape in SHAPES for padding in ("same", "valid") if padding == "same" or min(shape[2:]) > 10
]


@pytest.fixture(autouse=True)
def one_thread(restore_threads):  # noqa: ARG001 - restores
    # Hundreds of small operations: on a busy machine their threads wait for each other most of the time.
    torch.set_num_threads(1)


@pytest.fixture(params=["shifted", "convolved", "in-blocks"])
def form(request, monkeypatch):
    """The forms of the filter that devices have, and images in more than one block; all on the CPU."""
    if request.param == "convolved":
        monkeypatch.setattr(plain_filters, "CONVOLVES", {"cpu"})
    if request.param == "in-blocks":
        monkeypatch.setitem(sys.modules["fused_ssim._torch.plain_plan"]._AT_A_TIME, "cpu", 100)
    plan._plan.cache_clear()
    yield request.param
    plan._plan.cache_clear()


forms = pytest.mark.usefixtures("form")


def value_and_grads(x, y, padding, **settings):
    call = fused_ssim.photometric_loss if "lambda_dssim" in settings else fused_ssim.ssim_map
    if "reduction" in settings and "lambda_dssim" not in settings:
        call = fused_ssim.fused_ssim3d if x.dim() == 5 else fused_ssim.fused_ssim
    x, y = x.detach().requires_grad_(), y.detach().requires_grad_()
    with fused_ssim.backend("torch"):
        value = call(x, y, padding=padding, **settings)
        value.sum().backward()
    return value.detach(), x.grad, y.grad


@forms
@pytest.mark.parametrize(("shape", "padding"), CASES, ids=readable)
def test_value_and_gradients_match_oracle_for_shape(shape, padding):
    x, y = independent_pair(shape)
    expected, *grads = oracle.ssim_and_grads(x, y, padding)
    value, *actual = value_and_grads(x, y, padding, reduction="mean")
    assert absolute_error(value, expected) <= VALUE
    for ours, theirs in zip(actual, grads, strict=True):
        assert relative_error(ours, theirs) <= GRADIENT


@forms
def test_autocast_rounds_nothing():
    x, y = pair((1, 2, 40, 50))
    expected, *grads = value_and_grads(x, y, "same", reduction="mean")
    with torch.autocast("cpu", torch.bfloat16):
        value, *actual = value_and_grads(x, y, "same", reduction="mean")
    assert torch.equal(value, expected)
    for ours, theirs in zip(actual, grads, strict=True):
        assert torch.equal(ours, theirs)


@forms
@pytest.mark.parametrize("settings", [{}, {"lambda_dssim": 0.2}], ids=["ssim", "loss"])
@pytest.mark.parametrize("mode", [None, "weight", "normalized"])
@pytest.mark.parametrize("reduction", ["sum", "image", "channel", "none"])
@pytest.mark.parametrize("shape", [(3, 2, 21, 17), (2, 2, 9, 8, 11)], ids=readable)
def test_every_reduction_and_mask_matches_oracle(shape, reduction, mode, settings):
    x, y = pair(shape)
    settings = {**settings, "reduction": reduction, "window_size": 7, "sigma": 2.0}
    if mode is not None:
        mask = torch.rand(shape[0], 1, *shape[2:], generator=torch.Generator().manual_seed(1))
        settings.update(mask=torch.where(mask > 0.3, mask, 0), mask_mode=mode)
    expected, *grads = oracle.objective_and_grads(x, y, "same", **settings)
    value, *actual = value_and_grads(x, y, "same", **settings)
    assert relative_error(value, expected) <= (GRADIENT if reduction == "none" else VALUE)
    for ours, theirs in zip(actual, grads, strict=True):
        assert relative_error(ours, theirs) <= GRADIENT


@forms
@pytest.mark.parametrize("size", [1, 3, 33])
def test_other_windows_match_the_native_library(size):
    x, y = pair((1, 2, 40, 37), torch.float64)
    for settings in ({"window_size": size, "sigma": 0.8}, {"window_size": size, "sigma": 5.0, "padding": "valid"}):
        expected, (grad_x, grad_y) = fused_ssim.value_and_grad(x, y, argnums=(0, 1), **settings)
        with fused_ssim.backend("torch"):
            value, grads = fused_ssim.value_and_grad(x, y, argnums=(0, 1), **settings)
            second = fused_ssim.value_and_grad(x, y, argnums=1, **settings)[1]
        torch.testing.assert_close((value, *grads), (expected, grad_x, grad_y), rtol=1e-9, atol=1e-14)
        torch.testing.assert_close(second, grad_y, rtol=1e-9, atol=1e-14)


# ---- The pivot -------------------------------------------------------------------------------------------------------


@forms
@pytest.mark.parametrize("name", HARD_CASE)
def test_bright_flat_images_keep_their_digits(name):
    x, y = hard_case(name)
    expected, *grads = oracle.ssim_and_grads(x, y)
    with fused_ssim.backend("torch"):
        value, actual = fused_ssim.value_and_grad(x, y, argnums=(0, 1))
    assert absolute_error(value, expected) <= HARD_CASE[name][0] + 1e-7
    for ours, theirs in zip(actual, grads, strict=True):
        # Without a pivot 5.6e-5 (flat-bright) and 2.1e-5 (smooth, which is not flat in its plane).
        assert relative_norm_error(ours, theirs) <= {"smooth": 1e-5, "flat-shifted": 2e-5}.get(name, 1e-6)


@forms
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("shape", [(1, 2, 60, 70), (1, 1, 20, 24, 28)], ids=readable)
def test_images_far_from_zero_keep_their_digits(shape, padding):
    # A CT with an offset, a sensor with a black level. The taps of the replaced packages do not sum to 1.
    generator = torch.Generator().manual_seed(0)
    x = 20000 + 6 * torch.rand(shape, generator=generator)
    y = 20000 + 6 * torch.rand(shape, generator=generator)
    expected, *grads = oracle.ssim_and_grads(x, y, padding, data_range=6.0)
    with fused_ssim.backend("torch"):
        value, actual = fused_ssim.value_and_grad(x, y, padding, argnums=(0, 1), data_range=6.0)
        assert fused_ssim.fused_ssim(x[:, :1], x[:, :1]) == 1 if len(shape) == 4 else True
    assert absolute_error(value, expected) <= VALUE
    for ours, theirs in zip(actual, grads, strict=True):
        # At the border to the zeros outside, the variance is that of the step, which leaves no digits to lose.
        assert relative_error(ours, theirs) <= GRADIENT


@forms
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_stays_where_windows_see_it(bad):
    x, y = pair((1, 2, 40, 50))
    x[0, 0, 20, 25] = bad
    clean = torch.ones(1, 2, 40, 50, dtype=torch.bool)
    clean[0, 0, 15:26, 20:31] = False
    with fused_ssim.backend("torch"):
        actual = fused_ssim.ssim_map(x, y)
    expected = oracle.ssim(pair((1, 2, 40, 50))[0], y, reduction="none")
    assert actual[~clean].isnan().all()
    assert absolute_error(actual[clean], expected[clean]) <= 1e-5


# ---- Memory ----------------------------------------------------------------------------------------------------------


class _Allocations(TorchDispatchMode):
    """The largest number of bytes that tensors held at once, which operations made under this mode."""

    def __init__(self):
        super().__init__()
        self.now = self.most = 0
        self._known = weakref.WeakSet()
        self._before = set()

    def ignore(self, *tensors):
        self._before = {tensor.untyped_storage()._cdata for tensor in tensors if tensor is not None}

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage):
        if storage in self._known or storage._cdata in self._before:
            return
        self._known.add(storage)
        self.now += storage.nbytes()
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._free, storage.nbytes())

    def _free(self, size):
        self.now -= size


@pytest.mark.parametrize("filters", ["shifted", "convolved"])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("grads", [1, 2, 3])
@pytest.mark.parametrize("shape", [(1, 1, 700, 750), (1, 1, 72, 80, 90)], ids=readable)
def test_memory_is_at_most_eight_images(monkeypatch, shape, grads, padding, filters):
    # A single plane, the worst case: others are computed one after the other.
    if filters == "convolved":
        monkeypatch.setattr(plain_filters, "CONVOLVES", {"cpu"})
    x, y = pair(shape)
    settings = checked_settings(padding=padding)
    plain = PlainPlan(settings, grads, F32, F32, x.device, x.shape, x.stride(), y.stride(), None, None)
    with _Allocations() as allocations:
        allocations.ignore(x, y)
        results = plain.value_and_grad(x, y, None, None)
    assert results[0].dim() == 0
    assert 3 * x.nbytes < allocations.most <= 8.1 * x.nbytes


# ---- The choice ------------------------------------------------------------------------------------------------------


def backend_in_use():
    """By what a call is computed, seen from the plan that it makes."""
    x = torch.rand(1, 1, 12, 13)
    plan._plan.cache_clear()
    made = []
    before = PlainPlan.__init__

    def init(self, *args):
        made.append(self)
        before(self, *args)

    PlainPlan.__init__ = init
    try:
        fused_ssim.fused_ssim(x, x)
    finally:
        PlainPlan.__init__ = before
        plan._plan.cache_clear()
    return "torch" if made else "native"


def test_blocks_nest_and_end():
    assert backend_in_use() == backends.of_process().replace("auto", "native")
    with fused_ssim.backend("torch"):
        assert (fused_ssim.info().backend, backend_in_use()) == ("torch", "torch")
        with fused_ssim.backend("native"):
            assert (fused_ssim.info().backend, backend_in_use()) == ("native", "native")
        with pytest.raises(ZeroDivisionError), fused_ssim.backend("native"):
            raise ZeroDivisionError
        assert backend_in_use() == "torch"
    assert fused_ssim.info().backend == backends.of_process()


def test_decorated_function_has_its_backend():
    assert fused_ssim.backend("torch")(backend_in_use)() == "torch"
    assert fused_ssim.backend("native")(backend_in_use)() == "native"


def test_block_holds_for_its_thread_alone():
    seen = []
    with fused_ssim.backend("torch"):
        thread = threading.Thread(target=lambda: seen.append(backends.current()))
        thread.start()
        thread.join()
    assert seen == [backends.of_process()]


@pytest.mark.parametrize(("name", "exception"), [("cuda", ValueError), (None, TypeError), (True, TypeError)])
def test_unknown_backend_is_an_error_at_once(name, exception):
    with pytest.raises(exception, match=r'name = .*; expected one of "auto", "native", "torch", "triton"'):
        fused_ssim.backend(name)


@pytest.mark.parametrize("outside", [False, True])
def test_backward_is_computed_as_forward_was(outside):
    # Twice, since the second backward computes everything again.
    x, y = pair((1, 2, 20, 24))
    x.requires_grad_()
    with fused_ssim.backend("torch"):
        loss = fused_ssim.fused_ssim(x, y)
    with fused_ssim.backend("native" if outside else "torch"):
        first, second = (torch.autograd.grad(loss, x, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_modules_use_the_backend_of_their_call():
    loss = fused_ssim.SSIMLoss()
    x, y = pair((1, 1, 40, 50))
    with fused_ssim.backend("torch"):
        by_torch = loss(x, y)
    with fused_ssim.backend("native"):
        native = loss(x, y)
    torch.testing.assert_close(by_torch, native, rtol=0, atol=VALUE)


def run(program, **environment):
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_environment_variable_holds_for_the_process():
    program = "import torch, fused_ssim; i = fused_ssim.info(); print(i.backend, {r.backend for r in i.routes})"
    assert run(program, FUSED_SSIM_BACKEND="torch").stdout.split() == ["torch", "{'torch'}"]
    assert run(program, FUSED_SSIM_BACKEND="").stdout.split()[0] == "auto"
    done = run(program, FUSED_SSIM_BACKEND="mps")
    assert "ValueError: FUSED_SSIM_BACKEND = 'mps'; expected one of" in done.stderr


def test_routes_name_every_device_of_the_native_library():
    with fused_ssim.backend("auto"):
        routes = {route.device: route for route in fused_ssim.info().routes}
    assert routes["cpu"].backend == routes["cuda"].backend == "native"
    assert routes["other"].backend == "torch"
    if fused_ssim.info().cuda_problem:
        assert 'backend("torch")' in routes["cuda"].reason


def test_amd_devices_of_torch_go_without_the_native_library(monkeypatch):
    # torch for ROCm calls them "cuda". With Triton installed, kernels of Triton compute: test_triton.py.
    from fused_ssim._torch import devices

    monkeypatch.setattr(devices.backends, "triton_problem", lambda _type: "Triton is not installed")
    monkeypatch.setattr(sys.modules["fused_ssim._base.info"], "triton_problem", lambda _type: "Triton is not installed")
    assert devices.backend_of("cuda", "auto") == ("torch" if torch.version.hip else "native")
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert devices.backend_of("cuda", "auto") == "torch"
    routes = {route.device: route for route in fused_ssim.info().routes}
    assert routes["cpu"].backend == "native" or backends.current() == "torch"
    assert routes["cuda"].backend == "torch"


def test_cases_pass_on_a_simulated_device():
    if not hasattr(torch._C, "_acc") or not hasattr(torch._C._acc, "create_empty_tensor"):
        pytest.skip("this torch has no devices in Python")
    cases = Path(__file__).parent / "simulated_cases.py"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", str(cases)],
        env={**os.environ, "FUSED_SSIM_BACKEND": "auto", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout


@pytest.mark.parametrize("compiler", ["aot_eager", pytest.param("inductor", marks=needs_compiler)])
def test_compiled_call_is_right(compiler):
    pytest.importorskip("torch._dynamo")
    x, y = pair((1, 2, 21, 34))

    def step(image, target):
        return 1 - fused_ssim.fused_ssim(image.sigmoid(), target)

    image = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(step(image, y), image)
    with fused_ssim.backend("torch"):
        value = torch.compile(step, fullgraph=True, backend=compiler)(image, y)
    (grad,) = torch.autograd.grad(value, image)
    assert absolute_error(value, step(x, y).double()) <= VALUE
    assert relative_error(grad, expected.double()) <= GRADIENT
