"""The networks that the published weights belong to, as far as their features: the packages hold numbers alone.

Each function below builds one for `factory:` in reuse.yaml. It also says how the network wants its pictures, in the
words of a `preprocessor_config.json`, because nothing in the packages does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

SIDE = 96
"""Pixels of a side. The networks were trained on 224 to 260, and take any size; the digits have 28."""

Built = tuple[nn.Module, dict[str, torch.Tensor]]
STAGES = (
    # expansion, channels, blocks, stride, kernel of EfficientNet
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
MOBILE_STAGES = (
    # expansion, channels, blocks, stride
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def lite0(weights: Mapping[str, torch.Tensor]) -> Built:
    """EfficientNet-lite0."""
    return _lite(weights, width=1.0, depth=1.0)


def lite1(weights: Mapping[str, torch.Tensor]) -> Built:
    """EfficientNet-lite1: a tenth deeper."""
    return _lite(weights, width=1.0, depth=1.1)


def lite2(weights: Mapping[str, torch.Tensor]) -> Built:
    """EfficientNet-lite2: a tenth wider, a fifth deeper."""
    return _lite(weights, width=1.1, depth=1.2)


def mobilenet() -> Built:
    """MobileNetV2; its file holds no classifier, so that all of it can be filled as it is."""
    return _fed(MobileNetV2(), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def _lite(weights: Mapping[str, torch.Tensor], *, width: float, depth: float) -> Built:
    network = EfficientNetLite(width=width, depth=depth)
    network.load_state_dict({name: tensor for name, tensor in weights.items() if not name.startswith("_fc.")})
    return _fed(network, mean=(127 / 255,) * 3, std=(128 / 255,) * 3)


def _fed(network: nn.Module, *, mean: tuple[float, ...], std: tuple[float, ...]) -> Built:
    network.preprocessor_config = {"image_mean": mean, "image_std": std, "resample": 2}
    return network, {"pixels": torch.zeros(1, 3, SIDE, SIDE)}


class EfficientNetLite(nn.Module):
    """EfficientNet without squeeze-and-excitation and with ReLU6, up to the mean over the last map.

    Attributes are called as in the published weights.
    Source: Tan and Le, EfficientNet (2019), table 1; the lite variants leave stem and head unscaled.
    """

    def __init__(self, *, width: float, depth: float) -> None:
        super().__init__()
        self._conv_stem = SameConv(3, 32, 3, 2)
        self._bn0 = _norm(32)
        self._blocks = nn.ModuleList()
        inputs = 32
        for i, (expansion, channels, blocks, stride, kernel) in enumerate(STAGES):
            outputs = _whole(channels * width)
            repeats = blocks if i in (0, len(STAGES) - 1) else math.ceil(blocks * depth)
            for j in range(repeats):
                self._blocks.append(Block(inputs, outputs, expansion, stride if j == 0 else 1, kernel))
                inputs = outputs
        self._conv_head = SameConv(inputs, 1280, 1)
        self._bn1 = _norm(1280)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) to (B, 1280)."""
        x = nn.functional.relu6(self._bn0(self._conv_stem(pixels)))
        for block in self._blocks:
            x = block(x)
        return nn.functional.relu6(self._bn1(self._conv_head(x))).mean((2, 3))


class Block(nn.Module):
    """Inverted residual: widen, filter each channel by itself, narrow."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int, kernel: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expands = expansion > 1
        self.skips = stride == 1 and inputs == outputs
        if self.expands:
            self._expand_conv, self._bn0 = SameConv(inputs, wide, 1), _norm(wide)
        self._depthwise_conv, self._bn1 = SameConv(wide, wide, kernel, stride, groups=wide), _norm(wide)
        self._project_conv, self._bn2 = SameConv(wide, outputs, 1), _norm(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        y = nn.functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = nn.functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.skips else y


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME: what does not come out even goes to the right and to the bottom."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, *, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride), rounded up."""
        bottom, right = (self._missing(extent) for extent in x.shape[2:])
        if bottom or right:
            x = nn.functional.pad(x, (right // 2, right - right // 2, bottom // 2, bottom - bottom // 2))
        return super().forward(x)

    def _missing(self, extent: int) -> int:
        kernel, stride = self.kernel_size[0], self.stride[0]
        return max(0, (math.ceil(extent / stride) - 1) * stride + kernel - extent)


class MobileNetV2(nn.Module):
    """MobileNetV2 up to the mean over the last map; `middle` is the mean over the last map of 96 channels.

    Attributes are called as in the published weights.
    Source: Sandler et al., MobileNetV2 (2018), table 2.
    """

    def __init__(self) -> None:
        super().__init__()
        self.middle = nn.AdaptiveAvgPool2d(1)
        layers: list[nn.Module] = [_filter(3, 32, 3, 2)]
        inputs = 32
        for expansion, outputs, blocks, stride in MOBILE_STAGES:
            for j in range(blocks):
                layers.append(Residual(inputs, outputs, expansion, stride if j == 0 else 1))
                inputs = outputs
        self.features = nn.Sequential(*layers, _filter(inputs, 1280, 1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) to (B, 1280)."""
        x = self.features[:14](pixels)
        self.middle(x)  # for `tap: middle`
        return self.features[14:](x).mean((2, 3))


class Residual(nn.Module):
    """Inverted residual of MobileNetV2."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.skips = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            *(_filter(inputs, wide, 1) if expansion > 1 else ()),
            *_filter(wide, wide, 3, stride, groups=wide),
            nn.Conv2d(wide, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        return x + self.conv(x) if self.skips else self.conv(x)


def _filter(inputs: int, outputs: int, kernel: int, stride: int = 1, *, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU6())


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


def _whole(channels: float) -> int:
    """To a multiple of eight, at most a tenth down."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8
