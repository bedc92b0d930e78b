"""A small U-Net; its port to JAX has channels last and kernels of transposed convolutions the other way round."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from benchmarks.ports.interface import Arrays, Port, initialised, numbers
from torch import nn

A, B, C, GROUPS, OUT = 8, 12, 16, 4, 3


class Double(nn.Module):
    """Two convolutions with group norms."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(inner, outer, 3, 1, 1), nn.GroupNorm(GROUPS, outer)
        self.conv2, self.norm2 = nn.Conv2d(outer, outer, 3, 1, 1), nn.GroupNorm(GROUPS, outer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm2(self.conv2(self.norm1(self.conv1(x)).relu())).relu()


class UNet(nn.Module):
    """Two levels down, two levels up, joined at each."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.bottom = Double(3, A), Double(A, B), Double(B, C)
        self.up2, self.join2 = nn.ConvTranspose2d(C, B, 2, 2), Double(2 * B, B)
        self.up1, self.join1 = nn.ConvTranspose2d(B, A, 2, 2), Double(2 * A, A)
        self.last = nn.Conv2d(A, OUT, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one = self.down1(x)
        two = self.down2(nn.functional.max_pool2d(one, 2))
        x = self.bottom(nn.functional.max_pool2d(two, 2))
        x = self.join2(torch.cat([two, self.up2(x)], 1))
        return self.last(self.join1(torch.cat([one, self.up1(x)], 1)))


DOUBLES = {"enc_a": (3, A), "enc_b": (A, B), "mid": (B, C), "dec_b": (2 * B, B), "dec_a": (2 * A, A)}
NAMES = {"enc_a": "down1", "enc_b": "down2", "mid": "bottom", "dec_b": "join2", "dec_a": "join1"}


def segment(w: Any, x: jax.Array) -> jax.Array:
    """The same in JAX."""
    one = _double(w, "enc_a", x.transpose(0, 2, 3, 1))
    two = _double(w, "enc_b", _pool(one))
    x = _double(w, "mid", _pool(two))
    x = _double(w, "dec_b", jnp.concatenate([two, _raised(x, w["rise_b"]) + w["rise_b_bias"]], -1))
    x = _double(w, "dec_a", jnp.concatenate([one, _raised(x, w["rise_a"]) + w["rise_a_bias"]], -1))
    return (x @ w["paint"] + w["paint_bias"]).transpose(0, 3, 1, 2)


def _double(w: Any, name: str, x: jax.Array) -> jax.Array:
    for i in (1, 2):
        kernel = w[f"{name}.k{i}"]
        x = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = jax.nn.relu(_norm(x + w[f"{name}.b{i}"], w[f"{name}.g{i}"], w[f"{name}.s{i}"]))
    return x


def _norm(x: jax.Array, scale: jax.Array, shift: jax.Array) -> jax.Array:
    n, h, wide, c = x.shape
    y = x.reshape(n, h, wide, GROUPS, c // GROUPS)
    mean, variance = y.mean((1, 2, 4), keepdims=True), y.var((1, 2, 4), keepdims=True)
    return ((y - mean) * jax.lax.rsqrt(variance + 1e-5)).reshape(x.shape) * scale + shift


def _pool(x: jax.Array) -> jax.Array:
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def _raised(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_transpose(x, kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def truth(w: Arrays) -> dict[str, np.ndarray]:
    """By hand: jax.lax.conv_transpose does not turn the kernel round, torch does."""
    found = {"paint": w["last.weight"][:, :, 0, 0].T, "paint_bias": w["last.bias"]}
    for name, ours in (("rise_b", "up2"), ("rise_a", "up1")):
        found[name] = w[f"{ours}.weight"].transpose(2, 3, 0, 1)[::-1, ::-1]
        found[f"{name}_bias"] = w[f"{ours}.bias"]
    for name, ours in NAMES.items():
        for i in (1, 2):
            found[f"{name}.k{i}"] = w[f"{ours}.conv{i}.weight"].transpose(2, 3, 1, 0)
            found[f"{name}.b{i}"], found[f"{name}.g{i}"] = w[f"{ours}.conv{i}.bias"], w[f"{ours}.norm{i}.weight"]
            found[f"{name}.s{i}"] = w[f"{ours}.norm{i}.bias"]
    return found


def reference() -> tuple[Any, dict[str, Any]]:
    """In torch."""
    return initialised(UNet()), FEEDS


def candidate() -> tuple[Any, dict[str, Any]]:
    """In JAX."""
    shapes = {"paint": (A, OUT), "paint_bias": (OUT,), "rise_b": (2, 2, C, B), "rise_b_bias": (B,),
              "rise_a": (2, 2, B, A), "rise_a_bias": (A,)}  # fmt: skip
    for name, (inner, outer) in DOUBLES.items():
        for i, own in ((1, inner), (2, outer)):
            shapes |= {f"{name}.k{i}": (3, 3, own, outer)}
            shapes |= {f"{name}.{part}{i}": (outer,) for part in ("b", "g", "s")}
    return jax.tree_util.Partial(segment, numbers(shapes)), FEEDS


FEEDS = {"x": np.random.default_rng(7).normal(size=(2, 3, 12, 8)).astype(np.float32)}
PORT = Port(
    "unet", "torch → JAX", "channels last, kernels of transposed convolutions turned round, norms written out",
    reference, candidate, FEEDS, truth,
)  # fmt: skip
