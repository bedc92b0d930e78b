"""Depthwise blocks with squeeze and excitation, and a flattened head; ported to JAX with channels last."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from benchmarks.ports.interface import Arrays, Port, initialised, numbers
from torch import nn

C, E, S, BLOCKS, CLASSES = 8, 16, 4, 3, 6  # channels, expanded, squeezed
SIDE = (6, 4)


class Block(nn.Module):
    """Expand, filter each channel, gate, project."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.norm1 = nn.Conv2d(C, E, 1, bias=False), nn.BatchNorm2d(E, eps=1e-3)
        self.depthwise, self.norm2 = nn.Conv2d(E, E, 3, 1, 1, groups=E, bias=False), nn.BatchNorm2d(E, eps=1e-3)
        self.squeeze, self.excite = nn.Conv2d(E, S, 1), nn.Conv2d(S, E, 1)
        self.project, self.norm3 = nn.Conv2d(E, C, 1, bias=False), nn.BatchNorm2d(C, eps=1e-3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.silu(self.norm1(self.expand(x)))
        y = nn.functional.silu(self.norm2(self.depthwise(y)))
        gate = self.excite(nn.functional.silu(self.squeeze(y.mean((2, 3), keepdim=True))))
        return x + self.norm3(self.project(y * gate.sigmoid()))


class MobileNet(nn.Module):
    """A stem, blocks, and a projection of the flattened image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, C, 3, 2, 1)
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))
        self.head = nn.Linear(C * SIDE[0] * SIDE[1], CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.hardswish(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.head(x.flatten(1))


SHAPES = {
    "grow": (1, 1, C, E), "n1": (4, E), "spatial": (3, 3, 1, E), "n2": (4, E), "narrow": (E, S), "narrow_b": (S,),
    "wide": (S, E), "wide_b": (E,), "shrink": (1, 1, E, C), "n3": (4, C),
}  # fmt: skip


def classify(w: Any, x: jax.Array) -> jax.Array:
    """The same in JAX; the statistics of a norm lie in one array."""
    x = _conv(x.transpose(0, 2, 3, 1), w["entry"], 2, 1) + w["entry_b"]
    x = x * jnp.clip(x + 3, 0, 6) / 6
    for i in range(BLOCKS):
        own = {name: w[f"{name}/{i}"] for name in SHAPES}
        y = jax.nn.silu(_norm(_conv(x, own["grow"], 1, 0), own["n1"]))
        y = jax.nn.silu(_norm(_conv(y, own["spatial"], 1, 1, groups=E), own["n2"]))
        gate = jax.nn.silu(y.mean((1, 2)) @ own["narrow"] + own["narrow_b"]) @ own["wide"] + own["wide_b"]
        x = x + _norm(_conv(y * jax.nn.sigmoid(gate)[:, None, None], own["shrink"], 1, 0), own["n3"])
    return x.reshape(x.shape[0], -1) @ w["exit"] + w["exit_b"]


def _conv(x: jax.Array, kernel: jax.Array, stride: int, pad: int, *, groups: int = 1) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), [(pad, pad)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )  # fmt: skip


def _norm(x: jax.Array, statistics: jax.Array) -> jax.Array:
    mean, variance, scale, shift = statistics
    return (x - mean) * (jax.lax.rsqrt(variance + 1e-3) * scale) + shift


def truth(w: Arrays) -> dict[str, np.ndarray]:
    """By hand."""
    head = w["head.weight"].reshape(CLASSES, C, *SIDE).transpose(2, 3, 1, 0).reshape(-1, CLASSES)
    found = {"entry": w["stem.weight"].transpose(2, 3, 1, 0), "entry_b": w["stem.bias"], "exit": head,
             "exit_b": w["head.bias"]}  # fmt: skip
    for i in range(BLOCKS):
        own = f"blocks.{i}."
        for name, ours in (("grow", "expand"), ("spatial", "depthwise"), ("shrink", "project")):
            found[f"{name}/{i}"] = w[f"{own}{ours}.weight"].transpose(2, 3, 1, 0)
        for j in (1, 2, 3):
            parts = ("running_mean", "running_var", "weight", "bias")
            found[f"n{j}/{i}"] = np.stack([w[f"{own}norm{j}.{part}"] for part in parts])
        for name, ours in (("narrow", "squeeze"), ("wide", "excite")):
            found[f"{name}/{i}"], found[f"{name}_b/{i}"] = (
                w[f"{own}{ours}.weight"][:, :, 0, 0].T,
                w[f"{own}{ours}.bias"],
            )
    return found


def reference() -> tuple[Any, dict[str, Any]]:
    """In torch."""
    return initialised(MobileNet()), FEEDS


def candidate() -> tuple[Any, dict[str, Any]]:
    """In JAX."""
    shapes = {"entry": (3, 3, 3, C), "entry_b": (C,), "exit": (C * SIDE[0] * SIDE[1], CLASSES), "exit_b": (CLASSES,)}
    weights = numbers(shapes | {f"{name}/{i}": shape for i in range(BLOCKS) for name, shape in SHAPES.items()})
    weights |= {name: jnp.abs(value) + 0.1 for name, value in weights.items() if name[0] == "n" and name[1].isdigit()}
    return jax.tree_util.Partial(classify, weights), FEEDS


FEEDS = {"x": np.random.default_rng(2).normal(size=(3, 3, 12, 8)).astype(np.float32)}
PORT = Port(
    "mobilenet", "torch → JAX", "channels last, statistics of a norm in one array, 1×1 convolutions as products, "
    "head on an image flattened in another order", reference, candidate, FEEDS, truth,
)  # fmt: skip
