"""ResNet-18, narrower, and its port to Keras: channels last, the shortcut before the main branch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from benchmarks.ports.interface import Arrays, Port, initialised
from torch import nn

WIDTHS, CLASSES = (8, 16, 24, 32), 7


class Block(nn.Module):
    """Two convolutions and a shortcut, projected where the width changes."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(outer), nn.BatchNorm2d(outer)
        self.downsample = None
        if inner != outer:
            self.downsample = nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class ResNet(nn.Module):
    """Eight blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, WIDTHS[0], 7, 2, 3, bias=False), nn.BatchNorm2d(WIDTHS[0])
        inner, blocks = WIDTHS[0], []
        for width in WIDTHS:
            blocks += [Block(inner, width, 1 if inner == width else 2), Block(width, width, 1)]
            inner = width
        self.blocks, self.head = nn.ModuleList(blocks), nn.Linear(inner, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(self.norm(self.stem(x)).relu(), 3, 2, 1)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


def _network() -> Any:
    from regraft.runtime.keras_model import import_keras

    keras = import_keras()
    layers = keras.layers

    def normed(x: Any, width: int, size: int, stride: int, name: str) -> Any:
        x = layers.ZeroPadding2D(size // 2)(x) if size > 1 else x
        x = layers.Conv2D(width, size, stride, use_bias=False, name=f"{name}_kernel")(x)
        return layers.BatchNormalization(epsilon=1e-5, name=f"{name}_statistics")(x)

    given = keras.Input((3, 40, 32), name="x")
    x = layers.ReLU()(normed(layers.Permute((2, 3, 1))(given), WIDTHS[0], 7, 2, "entry"))
    x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))  # relu in front of it: zeros are as good as -inf
    inner = WIDTHS[0]
    for i, width in enumerate(WIDTHS):
        for j in range(2):
            stride = 2 if inner != width else 1
            beside = normed(x, width, 1, stride, f"s{i}u{j}_short") if inner != width else x
            y = layers.ReLU()(normed(x, width, 3, stride, f"s{i}u{j}_a"))
            x = layers.ReLU()(layers.Add()([normed(y, width, 3, 1, f"s{i}u{j}_b"), beside]))
            inner = width
    x = layers.Dense(CLASSES, name="classes")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(given, x)


def truth(w: Arrays) -> dict[str, np.ndarray]:
    """By hand."""
    found = {"classes/kernel": w["head.weight"].T, "classes/bias": w["head.bias"]}
    found |= _normed(w, "entry", "stem", "norm")
    for i in range(len(WIDTHS)):
        for j in range(2):
            ours, theirs = f"blocks.{2 * i + j}.", f"s{i}u{j}_"
            found |= _normed(w, theirs + "a", ours + "conv1", ours + "norm1")
            found |= _normed(w, theirs + "b", ours + "conv2", ours + "norm2")
            if ours + "downsample.0.weight" in w:
                found |= _normed(w, theirs + "short", ours + "downsample.0", ours + "downsample.1")
    return found


def _normed(w: Arrays, name: str, conv: str, norm: str) -> dict[str, np.ndarray]:
    return {
        f"{name}_kernel/kernel": w[f"{conv}.weight"].transpose(2, 3, 1, 0),
        f"{name}_statistics/gamma": w[f"{norm}.weight"], f"{name}_statistics/beta": w[f"{norm}.bias"],
        f"{name}_statistics/moving_mean": w[f"{norm}.running_mean"],
        f"{name}_statistics/moving_variance": w[f"{norm}.running_var"],
    }  # fmt: skip


def reference() -> tuple[Any, dict[str, Any]]:
    """In torch."""
    return initialised(ResNet()), FEEDS


def candidate() -> tuple[Any, dict[str, Any]]:
    """In Keras."""
    return _network(), FEEDS


FEEDS = {"x": np.random.default_rng(1).normal(size=(2, 3, 40, 32)).astype(np.float32)}
PORT = Port(
    "resnet", "torch → Keras", "channels last, shortcut called first, statistics written out", reference, candidate,
    FEEDS, truth,
)  # fmt: skip
