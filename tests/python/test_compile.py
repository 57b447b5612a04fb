# SPDX-License-Identifier: MIT
"""torch.compile, torch.export, torch.jit, fake and meta tensors: torch looks at the operators and runs them right."""

from __future__ import annotations

import io

import pytest
import torch
from images import absolute_error, pair, readable, relative_error
from systems import needs_compiler
from tolerances import GRADIENT, VALUE
from torch.fx.experimental.proxy_tensor import make_fx

import fused_ssim
from fused_ssim._base.settings import Settings, pack, setting_names

fake_tensor = pytest.importorskip("torch._subclasses.fake_tensor")
testing = pytest.importorskip("torch._dynamo.testing")

TORCH = tuple(map(int, torch.__version__.split(".")[:2]))
SHAPES = [(2, 3, 21, 34), (1, 2, 12, 13, 18)]
F32 = torch.float32

UNLIKE_SHAPES = r"img2\.shape = \(1, 1, 20, 21\)"
OBSERVED = r"^Observed exception\n"

shapes = pytest.mark.parametrize("shape", SHAPES, ids=readable)


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()


def compiled(function, backend="aot_eager", **options):
    return torch.compile(function, fullgraph=True, backend=backend, **options)


def of_dims(x):
    return fused_ssim.fused_ssim3d if x.dim() == 5 else fused_ssim.fused_ssim


CALLS = {
    "mean": lambda x, y, _m: of_dims(x)(x, y),
    "sum": lambda x, y, _m: of_dims(x)(x, y, reduction="sum"),
    "image": lambda x, y, _m: of_dims(x)(x, y, reduction="image"),
    "channel": lambda x, y, _m: of_dims(x)(x, y, "valid", reduction="channel"),
    "map": lambda x, y, _m: fused_ssim.ssim_map(x, y, "valid", window_size=7, sigma=2.0),
    "FusedSSIMMap": lambda x, y, _m: fused_ssim.FusedSSIMMap.apply(1e-4, 9e-4, x, y, "same", True, x.dim() - 2),
    "loss": lambda x, y, _m: fused_ssim.photometric_loss(x, y),
    "loss-masked": lambda x, y, m: fused_ssim.photometric_loss(x, y, mask=m, mask_mode="normalized"),
    "masked": lambda x, y, m: of_dims(x)(x, y, mask=m),
    "ssim": lambda x, y, _m: fused_ssim.ssim(x, y, data_range=1, size_average=False),
    "ssim-own-window": lambda x, y, _m: fused_ssim.ssim(
        x, y, data_range=1, win=torch.tensor([0.2, 0.5, 0.3]).expand(x.shape[1], *[1] * (x.dim() - 2), 3)
    ),
    "ms_ssim": lambda x, y, _m: fused_ssim.MSSSIMLoss(padding="same", weights=(0.4, 0.6))(x, y),
}
calls = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


def images(shape, device, dtype=F32):
    x, y = pair(shape, dtype, device)
    mask = torch.rand((shape[0], 1, *shape[2:]), generator=torch.Generator().manual_seed(2)).to(device) > 0.3
    return x, y, mask


def value_and_grads(call, x, y, mask):
    x, y = x.detach().requires_grad_(), y.detach().requires_grad_()
    value = call(x, y, mask)
    grads = torch.autograd.grad(value.square().sum(), (x, y))
    return value.detach(), *grads


def agree(actual, expected):
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours.dtype == theirs.dtype
        assert relative_error(ours, theirs.cpu().double()) <= GRADIENT[F32]


# ---- torch.compile ---------------------------------------------------------------------------------------------------


@shapes
@calls
def test_compiled_call_gives_value_and_gradients(device, shape, call):
    inputs = images(shape, device)
    agree(value_and_grads(compiled(call), *inputs), value_and_grads(call, *inputs))


@calls
def test_compiled_call_without_gradients_gives_the_value(device, call):
    inputs = images(SHAPES[0], device)
    agree([compiled(call)(*inputs)], [call(*inputs)])


@pytest.mark.parametrize(
    "call",
    [CALLS["mean"], CALLS["map"], CALLS["loss-masked"], CALLS["ms_ssim"]],
    ids=["mean", "map", "loss-masked", "ms_ssim"],
)
def test_compiled_call_serves_all_shapes_at_once(device, call):
    counter = testing.CompileCounterWithBackend("aot_eager")
    function = torch.compile(call, fullgraph=True, backend=counter, dynamic=True)
    counts = []
    for shape in [(2, 3, 21, 34), (3, 4, 40, 23), (5, 2, 27, 64)]:
        inputs = images(shape, device)
        agree(value_and_grads(function, *inputs), value_and_grads(call, *inputs))
        counts.append(counter.frame_count)
    assert counts[1:] == counts[:-1]
    x, y, mask = images((2, 3, 21, 34), device, torch.float16)
    (value, *grads), expected = value_and_grads(function, x, y, mask), value_and_grads(call, x, y, mask)
    assert relative_error(value, expected[0].cpu().double()) <= VALUE[torch.float16]
    for ours, theirs in zip(grads, expected[1:], strict=True):
        # One unit in the last place of float16, which is all that subnormal gradients of a mean have.
        assert float((ours - theirs).abs().max()) <= 2.0**-10 * float(theirs.abs().max()) + 2.0**-23


@needs_compiler
def test_compiled_training_step_of_inductor_is_right(device):
    x, y, mask = images((2, 3, 32, 40), device)

    def step(x, y, m):
        return (x - y).abs().mean() * 0.5 + 1 - fused_ssim.fused_ssim(x.sigmoid(), y, mask=m)

    agree(value_and_grads(compiled(step, "inductor"), x, y, mask), value_and_grads(step, x, y, mask))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=readable)
@pytest.mark.parametrize("name", ["mean", "map", "loss"])
def test_compiled_call_of_other_dtypes_is_accurate(device, name, dtype):
    x, y, mask = images((1, 2, 64, 80), device, dtype)
    x.requires_grad_()
    expected_value = CALLS[name](x.detach().double(), y.double(), mask)
    reference = x.detach().double().requires_grad_()
    scale = 2.0**15  # as a loss scaler: gradients of a mean would be below float16
    (expected,) = torch.autograd.grad(CALLS[name](reference, y.double(), mask).mean() * scale, reference)
    value = compiled(CALLS[name])(x, y, mask)
    (grad,) = torch.autograd.grad(value.mean() * scale, x)
    assert value.dtype == (torch.float64 if dtype == torch.float64 else F32)
    assert absolute_error(value.mean(), expected_value.mean().cpu()) <= VALUE[dtype]
    assert grad.dtype == dtype
    assert relative_error(grad, expected.cpu()) <= GRADIENT[dtype]


def test_compiled_pytorch_msssim_interface_is_right(device):
    x, y, mask = images((1, 2, 170, 165), device)
    call = lambda x, y, _m: fused_ssim.ms_ssim(x, y, data_range=1)  # noqa: E731
    agree(value_and_grads(compiled(call), x, y, mask), value_and_grads(call, x, y, mask))


def test_compiled_modules_are_right(device):
    x, y, mask = images((1, 3, 32, 40), device)
    for module in (fused_ssim.SSIMLoss(), fused_ssim.PhotometricLoss(0.3), fused_ssim.SSIM(data_range=1)):
        call = lambda x, y, _m, module=module: module(x, y)  # noqa: E731
        agree(value_and_grads(compiled(call), x, y, mask), value_and_grads(call, x, y, mask))


def test_compiled_func_grad_is_right(device):
    x, y, _ = images((1, 2, 16, 19), device)
    call = lambda a, b: torch.func.grad(lambda x: fused_ssim.fused_ssim(x, b))(a)  # noqa: E731
    agree([compiled(call)(x, y)], [call(x, y)])


@pytest.mark.parametrize("transformed_first", [False, True])
def test_compiled_call_is_made_anew_under_func_grad(device, transformed_first):
    x, y, _ = images((1, 2, 16, 19), device)
    call = lambda a, b: fused_ssim.fused_ssim(a, b)  # noqa: E731
    function = torch.compile(call, backend="aot_eager")
    expected, expected_grad = call(x, y), torch.func.grad(call)(x, y)
    for transformed in (transformed_first, not transformed_first, transformed_first):
        if transformed:
            agree([torch.func.grad(function)(x, y)], [expected_grad])
        else:
            agree([function(x, y)], [expected])


def test_compiled_value_and_grad_is_right(device):
    x, y, _ = images((1, 2, 16, 19), device)
    call = lambda a, b: fused_ssim.value_and_grad(a, b)  # noqa: E731
    agree(compiled(call)(x, y), call(x, y))


def compare_unlike_shapes(compiler):
    call = lambda a, b: fused_ssim.fused_ssim(a, b)  # noqa: E731
    compiler(call)(torch.zeros(1, 1, 20, 20), torch.zeros(1, 1, 20, 21))


def test_compiled_bad_input_is_an_error():
    with pytest.raises(ValueError, match=UNLIKE_SHAPES):
        compare_unlike_shapes(torch.compile)


def test_compiled_bad_input_in_one_graph_is_an_error():
    # One graph has no place for an error, so the compiler raises one of its own; the first ones left out the text.
    with pytest.raises(torch._dynamo.exc.Unsupported, match=OBSERVED if TORCH < (2, 7) else UNLIKE_SHAPES):
        compare_unlike_shapes(compiled)


@pytest.mark.cuda
def test_compiled_training_step_runs_in_a_cuda_graph():
    x, y, mask = images((1, 3, 64, 80), "cuda")
    function = torch.compile(CALLS["loss-masked"], fullgraph=True, mode="reduce-overhead")
    for _ in range(4):  # warms up, records, replays
        agree(value_and_grads(function, x, y, mask), value_and_grads(CALLS["loss-masked"], x, y, mask))


# ---- Operators -------------------------------------------------------------------------------------------------------

PLAIN = dict(zip(setting_names(), pack(Settings()), strict=True))
VARIANTS = {
    "mean": {},
    "image": {"reduction": "image"},
    "map-valid": {"padding": "valid", "reduction": "none"},
    "loss": {"lambda_dssim": 0.2},
    "normalized": {"normalized": True},
    "taps": {"window_size": [3], "taps": [0.25, 0.5, 0.25]},
    "ms-channel": {"reduction": "channel", "weights": [0.5, 0.5]},
    "reflect": {"padding": "reflect", "window_size": [5], "sample_covariance": True},
    "float64": {"padding": "symmetric", "arithmetic": "float64"},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", [(2, 2, 13, 15), (1, 2, 11, 12, 13)], ids=readable)
def test_operators_pass_opcheck(device, shape, variant):
    settings = {**PLAIN, **VARIANTS[variant]}.values()
    x, y, mask = images(shape, device)
    weight = mask if variant in ("normalized", "loss") else None
    ranges = torch.arange(1.0, shape[0] + 1, device=device) if variant in ("loss", "ms-channel", "map-valid") else None
    ops = torch.ops.fused_ssim
    x.requires_grad_()
    value = ops.ssim(x, y, weight, ranges, True, *settings)
    torch.library.opcheck(ops.ssim, (x, y, weight, ranges, True, *settings))
    torch.library.opcheck(ops.ssim, (x, y.requires_grad_(), weight, ranges, True, *settings))
    if variant != "map-valid":
        torch.library.opcheck(ops.ssim_value_and_grad, (x, y, weight, ranges, 3, *settings))
    upstream = torch.rand_like(value)
    for wanted in (1, 3):
        torch.library.opcheck(ops.ssim_backward, (upstream, x.detach(), y.detach(), weight, ranges, wanted, *settings))


def test_operators_have_rules_for_vmap(device):
    x, y = pair((3, 1, 2, 13, 15), device=device)
    call = lambda a, b: torch.ops.fused_ssim.ssim(a, b, None, None, True, *PLAIN.values())  # noqa: E731
    expected = torch.stack([call(a, b) for a, b in zip(x, y, strict=True)])
    agree([torch.func.vmap(call)(x, y)], [expected])


def test_operators_have_second_derivatives(device):
    x, y = pair((1, 1, 6, 7), torch.float64, device)
    settings = {**PLAIN, "window_size": [3]}.values()
    call = lambda a, b: torch.ops.fused_ssim.ssim(a, b, None, None, True, *settings)  # noqa: E731
    in_one_pass = lambda a, b: torch.ops.fused_ssim.ssim_value_and_grad(a, b, None, None, 3, *settings)[0]  # noqa: E731
    for function in (call, in_one_pass):
        assert torch.autograd.gradcheck(function, (x.requires_grad_(), y.requires_grad_()))
        assert torch.autograd.gradgradcheck(function, (x, y))


def test_operator_of_train_false_has_no_backward(device):
    x, y = pair((1, 1, 12, 13), device=device)
    value = torch.ops.fused_ssim.ssim(x.requires_grad_(), y, None, None, False, *PLAIN.values())
    with pytest.raises(RuntimeError, match="train=True"):
        value.backward()


# ---- export, jit, fx -------------------------------------------------------------------------------------------------


class Model(torch.nn.Module):
    def forward(self, x, y, mask):
        return fused_ssim.photometric_loss(x.clamp(0, 1), y, mask=mask) + fused_ssim.fused_ssim(x, y)


@pytest.mark.parametrize("strict", [False, True], ids=["traced", "strict"])
def test_exported_program_gives_the_value_for_other_shapes(device, strict):
    inputs = images((2, 3, 21, 34), device)
    batch, height, width = (torch.export.Dim(name, min=2, max=128) for name in ("batch", "height", "width"))
    axes = {0: batch, 2: height, 3: width}
    program = torch.export.export(Model(), inputs, dynamic_shapes=(axes, axes, axes), strict=strict)
    targets = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert targets.count(torch.ops.fused_ssim.ssim.default) == 2
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    for shape in [(2, 3, 21, 34), (4, 3, 40, 23)]:
        inputs = images(shape, device)
        agree([loaded(*inputs)], [Model()(*inputs)])


@pytest.mark.filterwarnings("ignore:.torch.jit.trace. is deprecated")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # what shapes are compared for is checked once
def test_traced_function_gives_the_value_for_other_images(device):
    x, y, _ = images((1, 2, 20, 22), device)
    with torch.no_grad():
        traced = torch.jit.trace(lambda a, b: fused_ssim.fused_ssim(a, b), (x, y), check_trace=False)
    assert "fused_ssim::ssim" in str(traced.graph)
    other_x, other_y = pair((1, 2, 20, 22), device=device, seed=7)
    agree([traced(other_x, other_y)], [fused_ssim.fused_ssim(other_x, other_y)])


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_scripted_function_calls_the_operator(device):
    # In the order of Settings, from padding to backend.
    @torch.jit.script
    def scripted(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.ops.fused_ssim.ssim(
            x,
            y,
            None,
            None,
            True,
            "same",
            "mean",
            [11],
            [1.5],
            0.01,
            0.03,
            None,
            False,
            None,
            None,
            False,
            None,
            [1.0, 1.0],
            True,
            None,
            "auto",
        )

    x, y, _ = images((1, 2, 20, 22), device)
    call = lambda a, b, _m: scripted(a, b)  # noqa: E731
    agree(value_and_grads(call, x, y, None), value_and_grads(CALLS["mean"], x, y, None))


def test_fx_graph_has_the_operator(device):
    x, y, _ = images((1, 2, 20, 22), device)
    graph = make_fx(lambda a, b: fused_ssim.fused_ssim(a, b))(x, y)
    assert "fused_ssim.ssim" in graph.code
    other = pair((1, 2, 20, 22), device=device, seed=7)
    agree([graph(*other)], [fused_ssim.fused_ssim(*other)])


# ---- Tensors without memory ------------------------------------------------------------------------------------------


@calls
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64], ids=readable)
def test_meta_tensors_have_the_shape_and_dtype_of_the_result(call, dtype):
    inputs = images((2, 3, 21, 34), "cpu", dtype)
    expected = value_and_grads(call, *inputs)
    actual = value_and_grads(call, *(image.to("meta") for image in inputs))
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours.device.type == "meta"
        assert (ours.shape, ours.dtype, ours.stride()) == (theirs.shape, theirs.dtype, theirs.stride())


@calls
def test_fake_tensors_have_the_shape_and_dtype_of_the_result(device, call):
    inputs = images((2, 3, 21, 34), device)
    inputs[0].copy_(inputs[0].to(memory_format=torch.channels_last))
    expected = value_and_grads(call, *inputs)
    with fake_tensor.FakeTensorMode() as mode:
        actual = value_and_grads(call, *(mode.from_tensor(image) for image in inputs))
    for ours, theirs in zip(actual, expected, strict=True):
        assert isinstance(ours, fake_tensor.FakeTensor)
        assert (ours.shape, ours.dtype, ours.stride()) == (theirs.shape, theirs.dtype, theirs.stride())


def test_meta_tensors_that_do_not_fit_are_an_error():
    with pytest.raises(ValueError, match=r"img1\.shape\[3\] = 7 < window 11"):
        fused_ssim.fused_ssim(*torch.empty(2, 1, 1, 20, 7, device="meta"), "valid")


def test_meta_value_and_grad_has_shapes():
    x, y = torch.empty(2, 1, 3, 20, 24, device="meta")
    value, (grad_x, grad_y) = fused_ssim.value_and_grad(x, y, argnums=(0, 1), reduction="image")
    assert value.shape == (1,)
    assert grad_x.shape == grad_y.shape == x.shape
