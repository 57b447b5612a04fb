# SPDX-License-Identifier: MIT
"""JAX: the parameters of a small scene, coloured Gaussians, fitted to a picture by a photometric loss.

The step is compiled once. Inside it value and gradient of the loss are one operation, on the CPU or on CUDA.

python examples/jax_fit.py [--steps 200]
"""

from __future__ import annotations

import argparse
from typing import Any

import jax
import jax.numpy as jnp

from fused_ssim.jax import photometric_loss, ssim

Params = dict[str, Any]


def render(params: Params, size: int = 64) -> Any:
    """The picture [H, W, C] of the scene: Gaussians with a place, a width and a colour, over grey."""
    grid = jnp.stack(jnp.meshgrid(jnp.linspace(0, 1, size), jnp.linspace(0, 1, size), indexing="ij"), -1)
    distance = ((grid[:, :, None] - params["place"]) ** 2).sum(-1)
    weight = jnp.exp(-0.5 * distance * jnp.exp(-2 * params["width"]))
    return jax.nn.sigmoid(weight @ params["colour"])


def scene(key: Any, count: int = 24) -> Params:
    """Random parameters."""
    place, width, colour = jax.random.split(key, 3)
    return {
        "place": jax.random.uniform(place, (count, 2)),
        "width": jnp.log(0.08) + 0.3 * jax.random.normal(width, (count,)),
        "colour": 2 * jax.random.normal(colour, (count, 3)),
    }


@jax.jit
def step(params: Params, momentum: Params, target: Any) -> tuple[Params, Params, Any]:
    """A step of gradient descent with momentum."""

    def loss(params: Params) -> Any:
        return photometric_loss(render(params), target, 0.2, channel_axis=-1)

    value, grads = jax.value_and_grad(loss)(params)
    momentum = jax.tree.map(lambda m, g: 0.9 * m + g, momentum, grads)
    rates = {"place": 0.02, "width": 0.2, "colour": 10.0}
    params = {name: params[name] - rates[name] * momentum[name] for name in params}
    return params, momentum, value


def main(steps: int) -> tuple[float, float]:
    """The similarity before and after the fit."""
    wanted, start = (scene(key) for key in jax.random.split(jax.random.key(0)))
    target = render(wanted)
    params, momentum = start, jax.tree.map(jnp.zeros_like, start)
    for number in range(steps):
        params, momentum, loss = step(params, momentum, target)
        if number % 50 == 0:
            print(f"step {number:4d}  loss {loss:.4f}")
    before, after = (float(ssim(render(each), target, channel_axis=-1)) for each in (start, params))
    print(f"SSIM {before:.3f} -> {after:.3f}")
    return before, after


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    main(parser.parse_args().steps)
