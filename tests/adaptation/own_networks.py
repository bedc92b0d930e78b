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
