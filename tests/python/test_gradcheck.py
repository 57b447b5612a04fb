# SPDX-License-Identifier: MIT
"""gradcheck and gradgradcheck in float64 of every public function."""

from __future__ import annotations

import pytest
import torch
from images import pair
from torch.autograd import gradcheck, gradgradcheck

import fused_ssim
from fused_ssim._base.codes import PADDINGS

IMAGE, VOLUME = (2, 2, 6, 7), (1, 2, 4, 5, 6)
SMALL = {"window_size": 3}
MASK = torch.rand((6, 7), generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def of_dims(x):
    return fused_ssim.fused_ssim3d if x.dim() == 5 else fused_ssim.fused_ssim


def own_window(x, taps):
    return torch.tensor(taps, dtype=torch.float64, device=x.device).expand(x.shape[1], *[1] * (x.dim() - 2), len(taps))


FUNCTIONS = {
    "fused_ssim": lambda x, y: fused_ssim.fused_ssim(x, y, **SMALL),
    "fused_ssim-valid-sum": lambda x, y: fused_ssim.fused_ssim(x, y, "valid", reduction="sum", **SMALL),
    "fused_ssim-image": lambda x, y: fused_ssim.fused_ssim(x, y, reduction="image", **SMALL),
    "fused_ssim2d-channel": lambda x, y: fused_ssim.fused_ssim2d(x, y, reduction="channel", **SMALL),
    "fused_ssim-masked": lambda x, y: fused_ssim.fused_ssim(x, y, mask=MASK.to(x.device), **SMALL),
    "fused_ssim-normalized": lambda x, y: fused_ssim.fused_ssim(
        x, y, mask=MASK.to(x.device), mask_mode="normalized", **SMALL
    ),
    "ssim_map": lambda x, y: fused_ssim.ssim_map(x, y, "valid", **SMALL),
    "FusedSSIMMap": lambda x, y: fused_ssim.FusedSSIMMap.apply(0.02, 0.05, x, y),
    "photometric_loss": lambda x, y: fused_ssim.photometric_loss(x, y, **SMALL),
    "photometric_loss-valid": lambda x, y: fused_ssim.photometric_loss(x, y, padding="valid", **SMALL),
    "photometric_loss-map": lambda x, y: fused_ssim.photometric_loss(x, y, reduction="none", **SMALL),
    "SSIMLoss": lambda x, y: fused_ssim.SSIMLoss(**SMALL)(x, y, MASK.to(x.device)),
    "MSSSIMLoss": lambda x, y: fused_ssim.MSSSIMLoss("same", weights=[0.4, 0.6], **SMALL)(x, y),
    "ssim": lambda x, y: fused_ssim.ssim(x, y, data_range=1, win_size=3, size_average=False),
    "ssim-lopsided-window": lambda x, y: fused_ssim.ssim(x, y, data_range=1, win=own_window(x, [0.5, 0.3, 0.2])),
    "ms_ssim": lambda x, y: fused_ssim.ms_ssim(x, y, data_range=1, win_size=3, weights=[0.4, 0.6]),
}
VOLUMES = {
    "fused_ssim3d": lambda x, y: fused_ssim.fused_ssim3d(x, y, **SMALL),
    "fused_ssim3d-image": lambda x, y: fused_ssim.fused_ssim3d(x, y, reduction="image", **SMALL),
    "fused_ssim3d-channel": lambda x, y: fused_ssim.fused_ssim3d(x, y, reduction="channel", **SMALL),
    "ssim_map": lambda x, y: fused_ssim.ssim_map(x, y, **SMALL),
    "photometric_loss": FUNCTIONS["photometric_loss"],
    "ssim": FUNCTIONS["ssim"],
}
CASES = {**{name: (IMAGE, call) for name, call in FUNCTIONS.items()}}
CASES.update({f"{name}-3d": (VOLUME, call) for name, call in VOLUMES.items()})
for padding in ("same", "valid"):
    whole = {"padding": padding}  # and the window of 11 taps
    CASES[f"{padding}-window-11"] = ((1, 2, 12, 13), lambda x, y, whole=whole: fused_ssim.fused_ssim(x, y, **whole))
    CASES[f"{padding}-window-11-3d"] = (
        (1, 1, 11, 12, 13),
        lambda x, y, whole=whole: fused_ssim.fused_ssim3d(x, y, **whole),
    )

# Every border, window and mean.
WINDOWS = {
    "gaussian": {"window_size": (3, 5, 7), "sigma": (0.7, 1.5, 1.0)},
    "uniform": {"window_size": 3, "taps": "uniform", "sample_covariance": True},
    "own": {"taps": [[0.25, 0.5, 0.25], [0.1, 0.2, 0.4, 0.2, 0.1], [1.0]]},
}
MEANS = ("mean", "image", "channel", "sum", "none")
for number, padding in enumerate(PADDINGS):
    for step, (window, arguments) in enumerate(WINDOWS.items()):
        for shape in ((2, 1, 6, 7), (1, 2, 4, 5, 7)):
            of_axes = {
                key: value[: len(shape) - 2] if isinstance(value, (tuple, list)) else value
                for key, value in arguments.items()
            }
            how = {"padding": padding, "reduction": MEANS[(number + step + len(shape)) % 5], **of_axes}
            CASES[f"{padding}-{window}-{how['reduction']}-{len(shape) - 2}d"] = (
                shape,
                lambda x, y, how=how: of_dims(x)(x, y, **how),
            )
    CASES[f"{padding}-photometric"] = (
        IMAGE,
        lambda x, y, padding=padding: fused_ssim.photometric_loss(
            x, y, padding=padding, mask=MASK.to(x.device), **SMALL
        ),
    )
    if padding != "same":  # which is above
        CASES[f"{padding}-normalized"] = (
            IMAGE,
            lambda x, y, padding=padding: fused_ssim.fused_ssim(
                x, y, padding, mask=MASK.to(x.device), mask_mode="normalized", **SMALL
            ),
        )
    if padding not in ("same", "valid"):
        CASES[f"{padding}-smaller-than-its-window"] = (
            (1, 1, 3, 2),
            lambda x, y, padding=padding: fused_ssim.ssim_map(x, y, padding, window_size=7),
        )
        CASES[f"{padding}-ms-ssim"] = (
            IMAGE,
            lambda x, y, padding=padding: fused_ssim.MSSSIMLoss(padding, weights=[0.4, 0.6], **SMALL)(x, y),
        )


@pytest.mark.parametrize("name", CASES)
def test_derivatives_agree_with_differences(device, name):
    shape, call = CASES[name]
    x, y = (image.requires_grad_() for image in pair(shape, torch.float64, device))
    assert gradcheck(call, (x, y), fast_mode=x.numel() > 1000)
    assert gradgradcheck(call, (x, y), fast_mode=True)
