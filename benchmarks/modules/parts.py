"""Operators as modules, so that each has a scope of its own by which a fault is known in every framework."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  as torch's own code calls it


class Call(nn.Module):
    """A function with settings that can be changed afterwards.

    Args:
        function: of tensors and settings.
        settings: attributes of this module under their names.
    """

    def __init__(self, function: Any, **settings: Any) -> None:
        super().__init__()
        self.function = function
        self.settings = settings

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.function(*tensors, **self.settings)
        return result


class BatchNorm(nn.BatchNorm2d):
    """With a switch for statistics of the batch that evaluation mode leaves alone."""

    uses_batch = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, variance = (None, None) if self.uses_batch else (self.running_mean, self.running_var)
        return F.batch_norm(x, mean, variance, self.weight, self.bias, training=self.uses_batch, eps=self.eps)


class RootMeanSquare(nn.Module):
    """Normalisation without a mean.

    Source: Zhang and Sennrich, Root Mean Square Layer Normalization, 2019, equation 4.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = 1e-6

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class Tied(nn.Module):
    """Scores of a vocabulary by the very weights that embed it."""

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        self.weight = embedding.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight)


def masked(scores: torch.Tensor, is_hidden: torch.Tensor, *, value: float) -> torch.Tensor:
    """Scores of what must not be seen become a large negative number."""
    return scores.masked_fill(is_hidden, value)


def mean_over_time(x: torch.Tensor, *, length: int | None) -> torch.Tensor:
    """(B, T, H) → (B, H); `length` is T as the example had it, None for what it is."""
    return x.mean(1) if length is None else x.sum(1) / length


def turned(x: torch.Tensor, *, sign: float) -> torch.Tensor:
    """The second half in front, as rotary positions want it."""
    first, second = x.chunk(2, -1)
    return torch.cat([sign * second, first], -1)


def initialised(network: nn.Module, seed: int) -> nn.Module:
    """Weights and statistics of plausible sizes; nothing is symmetric, zero or one by default."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in (*network.named_parameters(), *network.named_buffers()):
            if not value.is_floating_point():
                continue
            noise = torch.randn(value.shape, generator=generator)
            if value.ndim > 1:
                value.copy_(1.2 * noise / value[0].numel() ** 0.5)
            elif name.endswith("running_var"):
                value.copy_(noise.abs() + 0.3)
            else:
                value.copy_(0.3 * noise + float(name.endswith("weight")))
    return network.eval()
