"""ResNet-18 with random weights, as a factory: what a pass or a conversion costs depends on its shapes alone."""

from __future__ import annotations

import torch
from torch import nn


def resnet18() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """The network, and feeds of two pictures."""
    torch.manual_seed(0)
    widths = [(64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)]
    blocks = [block for wide, to, step in widths for block in (Block(wide, to, step), Block(to, to, 1))]
    network = nn.Sequential(
        _norm(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(512, 1000),
    )  # fmt: skip
    return network.eval(), {"input": torch.randn(2, 3, 224, 224)}


def _norm(channels_in: int, channels_out: int, size: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels_out, size, stride, size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out))


class Block(nn.Module):
    """Two convolutions and a way past them."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = _norm(channels_in, channels, 3, stride), _norm(channels, channels, 3, 1)
        self.skip = nn.Identity() if stride == 1 else _norm(channels_in, channels, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.second(torch.relu(self.first(x))) + self.skip(x))  # (N, C, H, W)
