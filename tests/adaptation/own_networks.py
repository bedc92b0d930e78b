"""Image networks of a user's own, for processes that candidates run in: one that works, and ways to fail."""

from __future__ import annotations

import os
import time

import torch
from torch import nn


class Moments(nn.Module):
    """Means over a grid of patches: weak features, but not useless ones."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return nn.functional.adaptive_avg_pool2d(pixels, 4).flatten(1)


class Coloured(nn.Module):
    """A trained network as others publish them: three channels, features inside, and a classifier of its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.filters = nn.Conv2d(3, 8, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.classifier = nn.Linear(128, 1000)
        self.preprocessor_config = {"image_mean": 0.5, "image_std": 0.25, "resample": 0}

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.pool(torch.relu(self.filters(pixels))).flatten(1))


class Constant(nn.Module):
    """The same features for every picture."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.ones(len(pixels), 3)


class NotANumber(nn.Module):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.full((len(pixels), 3), float("nan"))


def _fed(network: nn.Module) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    return network, {"pixels": torch.zeros(1, 1, 8, 8)}


def works() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    return _fed(Moments())


def works_too() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    return _fed(Moments())


def coloured() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    return Coloured(), {"pixels": torch.zeros(1, 3, 12, 12)}


def useless() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    return _fed(Constant())


def not_finite() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    return _fed(NotANumber())


def crashes() -> nn.Module:
    os.abort()


def hangs() -> nn.Module:
    time.sleep(3600)
    return Moments()


def raises() -> nn.Module:
    raise KeyError("layers.7")
