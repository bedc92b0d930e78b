"""Factories as a user would write them; imported by name."""

from __future__ import annotations

import torch
from torch import nn


class Sum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


def plain() -> nn.Module:
    return Sum()


def with_example() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    return Sum(), {"x": torch.zeros(2, 4)}


def renaming(state_dict: dict[str, torch.Tensor]) -> nn.Module:
    module = Sum()
    module.load_state_dict({name.replace("fc.", "layer."): tensor for name, tensor in state_dict.items()})
    return module


def two(first: int, second: int) -> nn.Module:
    return Sum()


def nothing() -> None:
    return None


constant = 3


def lazy() -> nn.Module:
    return nn.LazyLinear(2)
